"""The run folder: every path in it, and the lock that keeps a second driver out.

runs/<sweep>/
    run.json           run id, and which spec and plan count: its digest and number, the plan's sha256, how many jobs
    spec.toml          the spec as it was given
    plan.json          cells and jobs with every file pinned
    versions/<n>/      spec and plan as they were before the spec was changed, oldest first
    journal.jsonl      what happened, see orchestrator.journal
    exams/<name>.zip   the exams that are not ours, as they were last run
    attempts/          the results, a few dozen attempts in a Parquet file
    files/             what gradings left to be looked at, by sha256; the column `files` names it
    attempts.lock      held by the process that writes them
    logs/              engine logs, one a lease
    lock               held by the driver that is alive
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestrator.errors import RunFolderError
from results import durable
from results.plainfile import NotPlainError, names_in, open_plain, plain_folder, read_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOST_BYTES: Final = 1 << 30
"""Of a spec, a plan or an identity: the plan of 100,000 jobs has some 20 million."""
_MOST_VERSIONS: Final = 1_000_000
_MOST_JOBS: Final = 100_000_000
_VERSION: Final = re.compile(r"[1-9][0-9]{0,6}")


def write_durably(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` so that a reader sees the old or the new file, also after a power cut."""
    try:
        durable.replace(path, data)
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot be written: {error.strerror}", hint="Give a folder with room in it: --out DIR."
        ) from None


def default_folder(name: str) -> Path:
    """The folder of a run of the sweep `name` for which nobody gave one."""
    return Path("runs") / name


def _unwritable(path: Path, error: OSError) -> RunFolderError:
    return RunFolderError(f"{path}: cannot be written: {error.strerror}", hint="Make room there, and start again.")


def _misplaced(error: NotPlainError) -> RunFolderError:
    return RunFolderError(f"{error.filename}: {error.strerror}", hint="Move it away, and start again.")


def _is_whole(value: Any, first: int, last: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and first <= value <= last


def _is_identity(found: Any) -> bool:
    """Whether this is what `begin` and `grow` write; runs of earlier versions lack the optional parts."""
    return (
        isinstance(found, dict)
        and all(isinstance(found.get(name), str) for name in ("run_id", "spec_digest"))
        and _is_whole(found.get("version", 1), 1, _MOST_VERSIONS)
        and _is_whole(found.get("jobs", 0), 0, _MOST_JOBS)
        and isinstance(found.get("plan_sha256", ""), str)
    )


def _number(identity: Mapping[str, Any]) -> int:
    """Which of a run's specs counts, from 1."""
    return int(identity.get("version", 1))


def _of_plan(plan_json: str) -> dict[str, Any]:
    """What the identity says of the plan that counts."""
    return {"jobs": len(json.loads(plan_json).get("jobs", ())), "plan_sha256": sha256_of(plan_json.encode())}


def sha256_of(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, slots=True)
class RunDir:
    """The paths of one run folder."""

    root: Path

    @property
    def identity(self) -> Path:
        """Run id and spec digest."""
        return self.root / "run.json"

    @property
    def spec(self) -> Path:
        """The spec's text."""
        return self.root / "spec.toml"

    @property
    def plan(self) -> Path:
        """The plan that this run follows."""
        return self.root / "plan.json"

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.root / "journal.jsonl"

    @property
    def logs(self) -> Path:
        """Engine logs."""
        return self.root / "logs"

    @property
    def lock_file(self) -> Path:
        """The lock of the driver that is alive."""
        return self.root / "lock"

    @property
    def exams(self) -> Path:
        """The exams that are not ours."""
        return self.root / "exams"

    @property
    def versions(self) -> Path:
        """Specs and plans that others have taken the place of."""
        return self.root / "versions"

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.identity.exists()

    def require(self) -> None:
        """Refuses a folder that holds neither a run nor the attempts of one."""
        if not self.exists() and not (self.root / "attempts").is_dir():
            what = "this is no run folder of quantsweep" if self.root.is_dir() else "there is no such folder"
            raise RunFolderError(
                f"{self.root}: {what}", hint="Give the folder that `quantsweep run` named, such as runs/quickstart."
            )

    def jobs_planned(self) -> int | None:
        """How many jobs the plan has; None where there is no plan that can be read."""
        with contextlib.suppress(RunFolderError, KeyError):
            return int(self.read_identity()["jobs"])
        try:  # a run of an earlier version; a large plan takes long to read
            return len(json.loads(self.read(self.plan))["jobs"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def read(self, path: Path) -> bytes:
        """What a file of this folder holds, but for the journal.

        Raises:
            OSError: it is not there, or no plain file (`results.plainfile`): its `strerror` says so.
        """
        return read_plain(path, most_bytes=_MOST_BYTES)

    def write_log(self, name: str, text: str) -> None:
        """Keeps the log of an engine.

        Raises:
            OSError: it cannot be written.
        """
        plain_folder(self.logs)
        descriptor = open_plain(self.logs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)

    def create(self) -> list[Path]:
        """Makes the folder; refuses one that holds something else. Returns what it made, the outermost folder first."""
        made = [folder for folder in (*reversed(self.root.parents), self.root) if not folder.exists()]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            names = [path.name for path in self.root.iterdir()]
        except OSError as error:
            raise RunFolderError(
                f"{self.root}: cannot be used as a run folder: {error.strerror}", hint="Give another one: --out DIR."
            ) from None
        # What `begin` leaves when it is killed, or has no room, before it comes to run.json: it is begun again.
        ours = {path.name for path in (self.lock_file, self.spec, self.plan, self.logs)}
        others = [name for name in names if name not in ours and not name.startswith(".")]
        if others and not self.exists():
            raise RunFolderError(
                f"{self.root}: this folder is no run of quantsweep and not empty ({', '.join(sorted(others)[:3])})",
                hint="Give an empty or a new folder: --out DIR.",
            )
        return made

    def discard(self, made: Sequence[Path]) -> None:
        """Removes what a run that was not begun has left: its lock, which the caller holds, and the folders it made."""
        with contextlib.suppress(OSError):
            if [path.name for path in self.root.iterdir()] == [self.lock_file.name]:
                self.lock_file.unlink()
                for folder in reversed(made):
                    folder.rmdir()

    def begin(self, *, spec_text: str, spec_digest: str, plan_json: str, version: str) -> str:
        """Writes what identifies this run; `run.json` comes last, so that a run half begun is begun again."""
        run_id = uuid.uuid4().hex
        write_durably(self.spec, spec_text.encode())
        write_durably(self.plan, plan_json.encode())
        identity: dict[str, Any] = {"run_id": run_id, "spec_digest": spec_digest, "quantsweep_version": version}
        identity |= _of_plan(plan_json)
        write_durably(self.identity, (json.dumps(identity, indent=2) + "\n").encode())
        return run_id

    def grow(self, *, spec_text: str, spec_digest: str, plan_json: str, version: str) -> None:
        """Puts another spec and plan in place of those that count, which are kept in `versions`.

        `run.json`, which comes last, decides: killed before, the old ones count, and `settle` puts them back.
        """
        identity = self.read_identity()
        kept = self._kept(identity)
        if not (kept / self.plan.name).exists():
            try:
                plain_folder(self.versions)
                plain_folder(kept)
                spec, plan = self.read(self.spec), self.read(self.plan)
                write_durably(kept / self.spec.name, spec)
                write_durably(kept / self.plan.name, plan)
                for folder in (self.versions, self.root):
                    durable.sync_folder(folder)
            except NotPlainError as error:
                raise _misplaced(error) from None
            except OSError as error:
                raise _unwritable(kept, error) from None
        write_durably(self.spec, spec_text.encode())
        write_durably(self.plan, plan_json.encode())
        identity |= {"spec_digest": spec_digest, "quantsweep_version": version, "version": _number(identity) + 1}
        identity |= _of_plan(plan_json)
        write_durably(self.identity, (json.dumps(identity, indent=2) + "\n").encode())

    def put_back(self, plan_json: str) -> None:
        """Writes a plan again that was lost; `run.json` comes last, so that a kill in between loses it once more."""
        identity = self.read_identity() | _of_plan(plan_json)
        write_durably(self.plan, plan_json.encode())
        write_durably(self.identity, (json.dumps(identity, indent=2) + "\n").encode())

    def settle(self) -> None:
        """Puts back the spec and the plan that count, where `grow` was killed before it came to its end."""
        kept = self._kept(self.read_identity())
        plan = kept / self.plan.name
        if not plan.exists():
            return
        try:
            spec, text = self.read(kept / self.spec.name), self.read(plan)
        except OSError as error:
            raise RunFolderError(
                f"{error.filename}: the spec and plan of this run were put aside there, and cannot be read: "
                f"{error.strerror}",
                hint=f"Put it back from a copy, or remove {kept} if {self.plan} is the plan that counts.",
            ) from None
        try:
            write_durably(self.spec, spec)
            write_durably(self.plan, text)
            plan.unlink()
            durable.sync_folder(kept)
        except OSError as error:
            raise _unwritable(self.root, error) from None

    def earlier_plans(self) -> list[Path]:
        """The plans that others have taken the place of, oldest first."""
        last = _number(self.read_identity())
        try:
            names = names_in(self.versions)
        except FileNotFoundError:
            return []
        except NotPlainError as error:
            raise _misplaced(error) from None
        except OSError as error:
            raise RunFolderError(f"{self.versions}: cannot be read as a folder: {error.strerror}") from None
        numbers = sorted(int(name) for name in names if _VERSION.fullmatch(name) and int(name) < last)
        paths = (self.versions / str(number) / self.plan.name for number in numbers)
        return [path for path in paths if path.exists()]

    def _kept(self, identity: Mapping[str, Any]) -> Path:
        """Where spec and plan are kept while others take their place."""
        return self.versions / str(_number(identity))

    def read_identity(self) -> dict[str, Any]:
        """What `begin` wrote; `RunFolderError` if it is not readable."""
        why = ""
        try:
            found = json.loads(self.read(self.identity))
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.root}: this is no run folder of quantsweep (it holds no run.json)",
                hint="Give the folder that `quantsweep run` named, such as runs/quickstart.",
            ) from None
        except OSError as error:
            found, why = None, f": {error.strerror}"
        except (ValueError, RecursionError):
            found = None
        if not _is_identity(found):
            raise RunFolderError(
                f"{self.identity}: cannot be read as a run's identity{why}",
                hint="Start a new run with --out DIR; the attempts in this folder stay readable.",
            )
        identity: dict[str, Any] = found
        return identity

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder for one driver; a second one is told who has it.

        `flock` is released by the kernel when its holder dies, however it dies, so there are no stale locks.
        """
        fd = self._open_lock()
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, only its holder has no name
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield
        finally:
            os.close(fd)

    def _open_lock(self) -> int:
        """A descriptor that holds the lock of the folder, as it is on disk: another start may have removed it."""
        while True:
            try:
                fd = open_plain(self.lock_file, os.O_RDWR | os.O_CREAT)
            except NotPlainError as error:
                raise _misplaced(error) from None
            except OSError as error:
                raise RunFolderError(f"{self.lock_file}: cannot be opened: {error.strerror}") from None
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), self.lock_file.stat()):
                        return fd
            except BlockingIOError:
                holder = os.pread(fd, 200, 0).decode(errors="replace").strip() or "another process"
                os.close(fd)
                raise RunFolderError(
                    f"{self.root}: a run of this folder is alive ({holder})",
                    hint="Wait for it, or stop it with Ctrl-C there; `quantsweep show` reads the folder meanwhile.",
                ) from None
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
