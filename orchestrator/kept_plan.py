"""The plan and the spec that a run folder holds, read back and held against what `run.json` says of them.

A plan decides which rows count, and a row of no job of it is taken out: so one that was cut or changed since it was
written is no plan, and is never followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import RunFolderError
from orchestrator.plan import Plan
from orchestrator.rundir import sha256_of
from orchestrator.spec import parse_spec

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from orchestrator.rundir import RunDir
    from orchestrator.spec import SweepSpec


def read_plan(folder: RunDir) -> Plan:
    """The plan that counts in `folder`.

    Raises:
        RunFolderError: it cannot be read, or is not the one that was written.
    """
    return _read(folder, folder.plan, folder.read_identity())


def read_earlier_plans(folder: RunDir) -> list[Plan]:
    """The plans that others have taken the place of, oldest first; `RunFolderError` if one cannot be read."""
    return [_read(folder, path, {}) for path in folder.earlier_plans()]


def read_old_spec(folder: RunDir) -> SweepSpec:
    """The spec that the plan of `folder` was made of.

    Raises:
        RunFolderError: it cannot be read.
        SpecError: it is no valid spec.
    """
    try:
        text = folder.read(folder.spec).decode()
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except OSError as error:
        reason = str(error.strerror)
    else:
        return parse_spec(text, str(folder.spec))
    raise RunFolderError(
        f"{folder.spec}: the spec of this run cannot be read: {reason}",
        hint="Put it back from a copy: it tells what a changed spec adds. With the spec as it was, the run goes on.",
    )


def _read(folder: RunDir, path: Path, identity: Mapping[str, Any]) -> Plan:
    try:
        return _plan_of(folder.read(path), identity)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else getattr(error, "strerror", None) or error
        raise RunFolderError(
            f"{path}: the plan of this run cannot be read: {reason}",
            hint="Start a new run with --out DIR; `quantsweep show` still reads this one's results.",
        ) from None


def _plan_of(data: bytes, identity: Mapping[str, Any]) -> Plan:
    """The plan in `data`; `ValueError` where it is not the one that `identity` tells of. Raises as `Plan.from_json`."""
    if identity.get("plan_sha256", found := sha256_of(data)) != found:
        msg = "it is not as it was written"
        raise ValueError(msg)
    plan = Plan.from_json(data.decode())
    if identity.get("jobs", planned := len(plan.jobs)) != planned:  # of an earlier version, which kept no checksum
        msg = f"it has {planned} jobs, the run {identity['jobs']}"
        raise ValueError(msg)
    return plan
