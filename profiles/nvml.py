"""A bounded way into NVML (``nvidia-ml-py``): a session that always ends, and questions that answer or say why not."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

# NVML error codes (nvml.h) that have a cure of their own.
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
RESET_REQUIRED = 16
LIB_RM_VERSION_MISMATCH = 18

GONE = frozenset({GPU_IS_LOST, RESET_REQUIRED})

CURES = {
    LIBRARY_NOT_FOUND: ("nvml-missing", "no NVIDIA driver library (libnvidia-ml.so.1) is installed"),
    DRIVER_NOT_LOADED: (
        "nvml-driver-not-loaded",
        "the NVIDIA library is there but its kernel driver is not loaded: `modprobe nvidia` (as root), or install it",
    ),
    NO_PERMISSION: (
        "nvml-no-permission",
        "this user may not talk to the NVIDIA driver: check the permissions of /dev/nvidiactl and /dev/nvidia*",
    ),
    LIB_RM_VERSION_MISMATCH: (
        "nvml-version-mismatch",
        "the NVIDIA library and the loaded driver are of different versions (an update without a restart): reboot",
    ),
}


class NvmlUnavailable(Exception):  # noqa: N818 - not an error of ours: most machines have no NVIDIA card
    """NVML cannot be used here; ``code`` is the notice's and the text is for a person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why NVML did not answer a question: its error number (None: not an NVML error) and its words."""

    number: int | None
    text: str


@contextmanager
def session() -> Iterator[Any]:
    """The ``pynvml`` module with NVML initialised; NVML counts its users, so sessions may overlap.

    Raises:
        NvmlUnavailable: there is no library, no driver, no permission.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        code, message = CURES.get(error.value, ("nvml-failed", f"the NVIDIA driver does not start: {error}"))
        raise NvmlUnavailable(code, message) from error
    try:
        yield pynvml
    finally:
        ask(pynvml.nvmlShutdown)


def ask(question: Callable[..., T] | None, *arguments: Any) -> tuple[T | None, Refusal | None]:
    """One NVML call: its answer, or None and why. A driver that sends bytes that are no text refuses as well.

    ``question`` is None where this version of ``nvidia-ml-py`` has no such call.
    """
    import pynvml

    if question is None:
        return None, Refusal(FUNCTION_NOT_FOUND, "not known to this version of nvidia-ml-py")
    try:
        return question(*arguments), None
    except pynvml.NVMLError as error:
        return None, Refusal(error.value, str(error))
    except (pynvml.NVMLLibraryMismatchError, UnicodeDecodeError, AttributeError) as error:
        return None, Refusal(None, f"{type(error).__name__}: {error}")


def processes(pynvml: Any, handle: Any) -> tuple[dict[int, int | None] | None, Refusal | None]:
    """Memory in bytes by pid on a device; None as a value where the driver will not tell (WDDM, some containers).

    Compute and graphics contexts are two lists of the same processes: the larger figure of the two counts, not the sum.
    """
    merged: dict[int, int | None] = {}
    refusal: Refusal | None = None
    answered = False
    for kind in ("Compute", "Graphics"):
        rows, refusal_here = None, None
        for version in ("_v3", "_v2"):
            question = getattr(pynvml, f"nvmlDeviceGet{kind}RunningProcesses{version}")
            rows, refusal_here = ask(question, handle)
            if refusal_here is None or refusal_here.number != FUNCTION_NOT_FOUND:
                break
        refusal = refusal or refusal_here
        for row in rows or ():
            held, before = row.usedGpuMemory, merged.get(row.pid)
            merged[row.pid] = held if before is None else max(before, held or 0)
        answered = answered or rows is not None
    return (merged, None) if answered else (None, refusal)
