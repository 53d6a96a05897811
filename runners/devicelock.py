"""One server a device, whoever asks: a lock on this machine that the kernel releases when its holders are gone.

Two sweeps that share a device measure each other and may run out of its memory. So a lease takes the device's lock
before it loads, over all drivers and users of the machine, and whoever comes second waits and can say for whom.

The lock is flock(2) on a small file in a folder that every user can write to and nobody can take others' files from:
the first of /run/lock and /tmp that belongs to root and is sticky. `QUANTSWEEP_LOCKS` names another folder, which all
who share a device must share; `off` takes no locks, for tests that play several nodes on one machine. The descriptor
is handed on to the engine's supervisor: if the agent is killed, the device is free only when the engine is gone.

What a file says about its holder anybody may have written: it is cut, made printable and believed by nobody; only the
kernel's lock counts. A link, a pipe or a file with several names in the lock's place is refused. Not covered: programs
other than quantsweep, containers that do not share the folder, and a user of the machine who takes the lock in order
to keep others waiting.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.errors import RunnersError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from profiles.types import Device

FOLDER_VARIABLE = "QUANTSWEEP_LOCKS"
OFF = "off"
POLL_S = 0.1
SAY_EVERY_S = 5.0
HOLDER_BYTES = 2048
_SHOWN_CHARS = 60
_SHARED_FOLDERS = ("/run/lock", "/tmp")  # noqa: S108 - checked for what makes them safe before they are used
_NOBODY = 65534  # what root of the host looks like inside a user namespace
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_ATTEMPTS = 20
_HINT = f"Mend that, or set {FOLDER_VARIABLE} to a folder that all users of this machine's devices share."


def device_key(device_id: str, device: Device | None) -> str:
    """The physical device as part of a file name: its UUID or PCI address, whatever it is called; the CPU is one."""
    if device is not None and device.kind == "cpu":
        return "cpu"
    name = (device.uuid or device.pci_id or device.id) if device is not None else device_id
    return re.sub(r"[^A-Za-z0-9.-]", "-", name)[:100]


def lock_keys(device_ids: Sequence[str], devices: Sequence[Device]) -> tuple[str, ...]:
    """The keys of a place's devices, each once, in the one order in which everybody takes them: so nobody waits for
    somebody who waits for us.
    """
    known = {device.id: device for device in devices}
    return tuple(sorted({device_key(device_id, known.get(device_id)) for device_id in device_ids}))


def lock_folder() -> Path | None:
    """Where the locks of this machine lie; None if they are switched off.

    Raises:
        RunnersError: there is no folder that all users share.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named == OFF:
        return None
    if named:
        folder = Path(named)
        if not folder.is_absolute():
            raise RunnersError(
                f"{FOLDER_VARIABLE} is {named}, which every process would look for in another place", _HINT
            )
        try:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(parents=True)
                folder.chmod(0o1777)
        except OSError as error:
            raise RunnersError(
                f"{FOLDER_VARIABLE}: {folder} cannot be made: {error.strerror or error}", _HINT
            ) from None
        return folder
    for name in _SHARED_FOLDERS:
        folder = Path(name).resolve()
        with contextlib.suppress(OSError):
            found = folder.stat()
            everybodys = found.st_mode & stat.S_IWOTH and found.st_mode & stat.S_ISVTX
            if stat.S_ISDIR(found.st_mode) and everybodys and found.st_uid in {0, _NOBODY}:
                return folder
    raise RunnersError(
        f"neither {' nor '.join(_SHARED_FOLDERS)} is a folder of root's that everybody can write to (mode 1777)",
        f"Set {FOLDER_VARIABLE} to a folder that all users of this machine's devices share.",
    )


class DeviceLock:
    """A device that is ours. Made by `take`; `release` gives it back, and may be called again."""

    def __init__(self, descriptor: int | None, path: Path | None) -> None:
        self.descriptor = descriptor
        """To be inherited by whoever must be gone before the device is free; None if locks are switched off."""
        self._path = path

    def release(self) -> None:
        """Gives the device back, as far as we hold it: processes that inherited the descriptor still do."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is None:
            return
        os.close(descriptor)
        if self._path is not None:
            _remove_if_free(self._path)


def _remove_if_free(path: Path) -> None:
    """Removes the file of a lock that nobody has: an engine that did not end with its lease may have it still.

    Whoever waits for this file finds, when it gets the lock, that its name is gone, and begins again.
    """
    with contextlib.suppress(OSError, RunnersError):
        descriptor = _open_regular(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                path.unlink()
        finally:
            os.close(descriptor)


def take(
    key: str,
    *,
    sweep: str,
    what: str,
    cancelled: threading.Event,
    waiting: Callable[[str], None],
) -> DeviceLock | None:
    """The lock of the device `key`, waited for as long as it takes; None if `cancelled` was set first.

    Those who wait stand in line: one at the lock itself, the others behind it. So a sweep that gives its device back
    between two cells does not take it again before somebody who waits.

    Args:
        key: from `device_key`.
        sweep: for those who wait for us.
        what: what is served, for the same.
        cancelled: ends the waiting.
        waiting: told now and then for whom we wait, if we have to.

    Raises:
        RunnersError: the lock's file cannot be used.
    """
    folder = lock_folder()
    if folder is None:
        return DeviceLock(None, None)
    path, line = folder / f"quantsweep-{key}.lock", folder / f"quantsweep-{key}.next"
    place: DeviceLock | None = None
    said_s = float("-inf")
    refusals = 0
    try:
        while not cancelled.is_set():
            place = place or _attempt(line, "")
            if place is not None and (lock := _attempt(path, _describe(sweep, what))) is not None:
                return lock
            refusals += 1  # the first may be of somebody who is just removing the file
            if refusals > 1 and time.monotonic() - said_s >= SAY_EVERY_S:
                said_s = time.monotonic()
                waiting(holder_of(path))
            cancelled.wait(POLL_S)
        return None
    finally:
        if place is not None:
            place.release()


def holder_of(path: Path) -> str:
    """Who says that it holds the lock, as one printable line of bounded length."""
    try:
        descriptor = _open_regular(path)
    except (RunnersError, OSError):
        return "another program"
    try:
        told = json.loads(os.pread(descriptor, HOLDER_BYTES, 0))
        sweep, what, user = (_inert(told.get(name)) for name in ("sweep", "what", "user"))
        pid, since = int(told["pid"]), time.localtime(float(told["since"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return "another program"
    finally:
        os.close(descriptor)
    return f"{what} of sweep {sweep} ({user}, pid {pid}, since {time.strftime('%Y-%m-%d %H:%M:%S', since)})"[:300]


def _describe(sweep: str, what: str) -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user id without a name
        user = f"user {os.getuid()}"
    told = {"sweep": sweep, "what": what, "user": user, "pid": os.getpid(), "since": time.time()}
    return json.dumps({name: value[:_SHOWN_CHARS] if isinstance(value, str) else value for name, value in told.items()})


def _inert(value: Any) -> str:
    text = "".join(letter for letter in str(value)[:_SHOWN_CHARS] if letter.isprintable() and letter not in "[]\\")
    return text or "?"


def _attempt(path: Path, holder: str) -> DeviceLock | None:
    """The lock on `path` if nobody has it now."""
    try:
        descriptor = _open_regular(path, create=True)
    except OSError as error:
        raise RunnersError(f"the device lock {path} cannot be used: {error.strerror or error}", _HINT) from None
    kept = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The one who had it may have removed the name meanwhile: then this is a lock on nothing.
        if not _is_at(descriptor, path):
            return None
        with contextlib.suppress(OSError):  # a full disk keeps nobody from a lock
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(errors="replace")[:HOLDER_BYTES], 0)
        kept = True
        return DeviceLock(descriptor, path)
    except BlockingIOError:
        return None
    except OSError as error:
        raise RunnersError(f"the device lock {path} cannot be used: {error.strerror or error}", _HINT) from None
    finally:
        if not kept:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def _open_regular(path: Path, *, create: bool = False) -> int:
    """A descriptor of the regular file `path`, which has this one name; made for everybody if it is not there.

    Opened without O_CREAT first: Linux refuses that flag on other users' files in a sticky folder
    (fs.protected_regular).
    """
    for attempt in range(_OPEN_ATTEMPTS):
        try:
            descriptor = os.open(path, _OPEN)
        except FileNotFoundError:
            if not create:
                raise
            try:
                descriptor = os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                continue
            os.fchmod(descriptor, 0o666)  # whatever the umask says: other users lock it too
        except PermissionError:
            # Its maker may be between making it and opening it up.
            if attempt == _OPEN_ATTEMPTS - 1:
                raise
            time.sleep(0.005)
            continue
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
            return descriptor
        os.close(descriptor)
        raise RunnersError(f"{path} is no plain file with one name; somebody put it in the way of the lock", _HINT)
    raise RunnersError(f"{path} comes and goes faster than it can be opened", _HINT)
