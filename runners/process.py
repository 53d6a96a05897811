"""A server process of ours: started under a supervisor, its log in a file, stopped with all its children.

Nothing may outlive its owner. The supervisor (`runners.supervisor`) sees to that while it lives; the pid file next to
the log lets the next start find what even a killed supervisor left (`reap_orphans`). A server is recognised as ours by
a token in its environment, not by its pid, which may have been given to somebody else since.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profiles.environment import child_environment
from runners.errors import RunnersError
from runners.reports import Reports
from runners.vitals import memory_kills

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TOKEN_VARIABLE = "QUANTSWEEP_SERVER"  # noqa: S105 - a name, not a secret
PID_FILE_SUFFIX = ".server.json"
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_START_TIMEOUT_S = 30.0
_KILL_MARGIN_S = 5.0
_KILLED_S = 5.0


class ProcessStartError(RunnersError):
    """The program could not be started; `errno` says why (ENOENT, EACCES, ENOEXEC ...)."""

    def __init__(self, message: str, hint: str = "", *, errno: int | None = None) -> None:
        super().__init__(message, hint)
        self.errno = errno


def log_tail(path: Path, *, lines: int = 20, max_bytes: int = 32768) -> str:
    """The last lines of a log, "" if there is none. Reads at most `max_bytes`."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - max_bytes))
            text = file.read(max_bytes).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def process_identity(pid: int) -> str | None:
    """What tells this process from a later one with the same pid: start time, exact on Linux. None: no such process."""
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    if boot_id.exists():
        try:
            boot = boot_id.read_text(encoding="ascii").strip()
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        # The command's name is in parentheses and may hold anything; starttime is field 22 of proc_pid_stat(5).
        after_name = stat.rpartition(b")")[2].split()
        return None if after_name[0] in {b"Z", b"X"} else f"{boot}:{after_name[19].decode()}"
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None


class ServerProcess:
    """One running server. Thread-safe. Made by `start`; `stop` must be called, and may be called again."""

    def __init__(
        self, supervisor: subprocess.Popen[bytes], argv: Sequence[str], log_path: Path, token: str, grace_s: float
    ) -> None:
        self.argv = tuple(argv)
        self.log_path = log_path
        self.pid = 0
        self._identity: str | None = None
        self.spawned_s = time.monotonic()
        self._supervisor = supervisor
        self._pid_file = log_path.with_name(log_path.name + PID_FILE_SUFFIX)
        self._token = token
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._stop_lock = threading.Lock()
        self._stopped = False
        self._reports = Reports()
        self._memory_kills_before = memory_kills()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        grace_s: float = 5.0,
        held: tuple[int, ...] = (),
    ) -> ServerProcess:
        """Start `argv` with its output in `log_path` (made anew) and `environment` (None: what ours may see).

        `grace_s` is how long it may take to end by itself when stopped. `held` are descriptors that stay open until
        the server is gone, even if we go first: locks on what the server uses. Raises `ProcessStartError`.
        """
        log_path.parent.mkdir(parents=True, exist_ok=True)
        token = uuid.uuid4().hex
        variables = {**(child_environment() if environment is None else environment), TOKEN_VARIABLE: token}
        with log_path.open("wb") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SUPERVISOR), str(os.getpid()), str(grace_s), *argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=held,
                env=variables,
            )
        process = cls(supervisor, argv, log_path, token, grace_s)
        try:
            process._await_start()
            owner = {"pid": os.getpid(), "identity": process_identity(os.getpid())}
            record = {"token": token, "owner": owner, "supervisor": supervisor.pid, "server": process.pid}
            process._pid_file.write_text(json.dumps(record) + "\n", encoding="utf-8")
        except BaseException:
            process.stop()
            raise
        return process

    def _await_start(self) -> None:
        if self.told("pid", timeout_s=_START_TIMEOUT_S) is not None:
            self.pid = int(self._reports.said["pid"])
            self._identity = process_identity(self.pid)
            self.spawned_s = float(self._reports.said["spawned_s"])
            return
        reason = self._reports.said.get("error") or log_tail(self.log_path, lines=3) or "its supervisor did not start"
        raise ProcessStartError(f"{self.argv[0]} could not be started: {reason}", errno=self._reports.said.get("errno"))

    def told(self, key: str, *, timeout_s: float = 0.0) -> Any:
        """What the server or its supervisor reported under `key`, waiting up to `timeout_s`; None if nothing came.

        A server of ours may report by writing a JSON object and a newline to the descriptor that
        `runners.supervisor.STATUS_FD_VARIABLE` names in its environment.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                open_still = self._read_reports(min(0.05, max(0.0, deadline - time.monotonic())))
            if key in self._reports.said or not open_still or time.monotonic() >= deadline:
                return self._reports.said.get(key)

    def _read_reports(self, timeout_s: float) -> bool:
        """Take in what is there; False once no more can come."""
        pipe = self._supervisor.stdout
        if pipe is None or pipe.closed:
            return False
        if not select.select([pipe], [], [], timeout_s)[0]:
            return True
        data = os.read(pipe.fileno(), 65536)
        self._reports.take(data)
        return bool(data)

    def is_alive(self) -> bool:
        """Whether the server still runs: by its supervisor's word, and by the kernel's, should that one be stopped."""
        if self._supervisor.poll() is not None or self.told("exit") is not None:
            return False
        return self._identity is None or process_identity(self.pid) == self._identity

    def wait(self, timeout_s: float) -> bool:
        """Wait for it to end by itself; whether it did."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(timeout_s)
        return not self.is_alive()

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs or if that is not known."""
        return self.ended(0.0)

    def ended(self, wait_s: float) -> int | None:
        """The same; waits up to `wait_s` for it: the kernel shows a death before the supervisor has told of it."""
        code = self.told("exit", timeout_s=wait_s)
        return code if isinstance(code, int) and not isinstance(code, bool) else None

    def memory_kills(self) -> int | None:
        """How many processes of this machine the kernel has ended for want of memory since the start; None: unknown."""
        now, before = memory_kills(), self._memory_kills_before
        return None if now is None or before is None else max(0, now - before)

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return log_tail(self.log_path, lines=lines)

    def kill(self) -> None:
        """End it at once, without asking: for one that hangs, which would only let the time of grace pass."""
        if self.pid and self.is_alive():
            # A group of its own; its id cannot be another's while the supervisor has not reaped it.
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait(_KILLED_S)

    def stop(self) -> None:
        """End it: asked first, killed after `grace_s`. Afterwards nothing of its process tree is left.

        Takes a bounded time. A process that even SIGKILL does not end, because it hangs in a driver, is left to the
        kernel.
        """
        with self._stop_lock:
            if not self._stopped:
                self._stop()
                self._stopped = True

    def _stop(self) -> None:
        supervisor = self._supervisor
        if supervisor.stdin is not None:
            with contextlib.suppress(OSError):
                supervisor.stdin.close()
        if supervisor.poll() is None:
            # Besides closing the pipe: a fork of this process may hold a copy of its end.
            supervisor.send_signal(signal.SIGTERM)
            try:
                supervisor.wait(self._grace_s + _KILL_MARGIN_S)
            except subprocess.TimeoutExpired:
                supervisor.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    supervisor.wait(_KILL_MARGIN_S)
        try:
            if self.pid and self.told("exit") is None:
                # The supervisor was killed: PDEATHSIG took the server, but not what the server had started.
                _kill_by_token(self._token)
        finally:
            with self._lock:
                if supervisor.stdout is not None:
                    supervisor.stdout.close()
            # A pid file that stays behind is no harm: its owner is found gone, and so is everything with its token.
            with contextlib.suppress(OSError):
                self._pid_file.unlink(missing_ok=True)


def reap_orphans(folder: Path) -> list[int]:
    """End servers of ours under `folder` whose owner is gone; the pids that had to be killed.

    Reads the pid files anywhere below `folder`. One whose owner still lives is left alone, whatever it runs.
    """
    killed: list[int] = []
    for pid_file in sorted(folder.rglob("*" + PID_FILE_SUFFIX)):
        try:
            record = json.loads(pid_file.read_text(encoding="utf-8"))
            owner, token = record["owner"], str(record["token"])
            owner_lives = process_identity(int(owner["pid"])) == owner["identity"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            # Half-written when its writer was killed: it was written after the supervisor started, which saw that.
            pid_file.unlink(missing_ok=True)
            continue
        if not owner_lives:
            killed += _kill_by_token(token)
            pid_file.unlink(missing_ok=True)
    return killed


def log_path(folder: Path, name: str) -> Path:
    """Where this process logs what it calls `name`: with its pid, by which `clear_logs` knows whose it is."""
    return folder / f"{name}.{os.getpid()}.log"


def clear_logs(folder: Path) -> None:
    """Remove the logs anywhere below `folder` whose writers are gone: nobody will send them to a driver any more."""
    for path in sorted(folder.rglob("*.log")):
        writer = path.stem.rpartition(".")[2]
        if writer.isdigit() and process_identity(int(writer)) is None:
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()  # succeeds only when it is empty


def _kill_by_token(token: str) -> list[int]:
    """Kill every process of this user whose environment carries `token`."""
    import psutil

    killed: list[int] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(TOKEN_VARIABLE) == token:
                process.kill()
                killed.append(process.pid)
    return killed
