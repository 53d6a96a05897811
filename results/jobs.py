"""All attempts of one job, found by the beginning of its id; the texts of others are not read."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from results.reading import ATTEMPTS_FOLDER, StoreError, read_file, read_files
from results.seal import TornFileError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FEWEST_CHARS: Final = 6
"""Of a job id that are shown, where fewer would do."""
_MOST_NAMED: Final = 5


def job_rows(run_folder: Path, beginning: str) -> list[dict[str, Any]]:
    """The attempts of the one job whose id begins so, with all columns, oldest first.

    The version in front of an id (`v2-`) may be left out.

    Raises:
        StoreError: There is no such job, or more than one, or the run cannot be read.
    """
    if not run_folder.is_dir():
        raise StoreError(f"there is no run at {run_folder}", "Give the folder that `quantsweep run --out` wrote.")
    by_job: dict[str, list[Path]] = {}
    for path, found in read_files(run_folder / ATTEMPTS_FOLDER, ["job_id"], whole=False):
        if not isinstance(found, TornFileError):
            for job_id in found["job_id"].unique().to_pylist():
                by_job.setdefault(job_id, []).append(path)
    job_id = _the_one(by_job, beginning, run_folder)
    rows = [row for path in by_job[job_id] for row in _rows(path, job_id)]
    once = {row["attempt"]: row for row in reversed(rows)}  # of two rows of an attempt, the one in the first file
    return [once[attempt] for attempt in sorted(once)]


def _rows(path: Path, job_id: str) -> Iterable[dict[str, Any]]:
    import pyarrow.compute as pc

    try:
        table = read_file(path)
    except TornFileError as error:
        raise StoreError(
            f"{path}: {error}", "`quantsweep run` with the same spec sets it aside and goes on."
        ) from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    found: list[dict[str, Any]] = table.filter(pc.equal(table["job_id"], job_id)).to_pylist()
    return found


def _the_one(job_ids: Iterable[str], beginning: str, run_folder: Path) -> str:
    found = sorted(job_id for job_id in job_ids if job_id.startswith(beginning) or bare(job_id).startswith(beginning))
    if beginning in found:
        return beginning
    if not found or not beginning:
        what = f"no job of {run_folder} has an id that begins with {beginning!r}"
        raise StoreError(what, "`quantsweep show RUN --failures` names the jobs that lost points.")
    if len(found) > 1:
        named = ", ".join(found[:_MOST_NAMED]) + (", ..." if len(found) > _MOST_NAMED else "")
        raise StoreError(f"{len(found)} jobs have an id that begins with {beginning!r}", f"Give more of it: {named}")
    return found[0]


def bare(job_id: str) -> str:
    """A job id without the version in front."""
    return job_id.partition("-")[2] or job_id


def short_ids(job_ids: Iterable[str]) -> dict[str, str]:
    """For each of these jobs the shortest beginning of its id that tells it from the others.

    Without the version, and of FEWEST_CHARS at least; the whole id where that tells nothing.
    """
    names = sorted({bare(job_id) for job_id in job_ids})
    longest = dict.fromkeys(names, 0)
    for left, right in pairwise(names):
        common = next((place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(left))
        longest[left], longest[right] = max(longest[left], common), max(longest[right], common)
    return {job_id: bare(job_id)[: max(longest[bare(job_id)] + 1, FEWEST_CHARS)] for job_id in job_ids}
