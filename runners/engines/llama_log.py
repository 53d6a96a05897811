"""What llama.cpp's log tells: the buffers it allocated, and why a model did not load."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, NamedTuple

from runners.engines.base import BufferSizes, LoadFailure

if TYPE_CHECKING:
    from pathlib import Path

_MIB = 1024 * 1024
_READ_BYTES = 8 * _MIB
_BUFFER = re.compile(
    r"(?<!\w)(\w++):\s++(\S++)\s++(model|KV|compute|output|RS)\s++buffer size\s*+=\s*+(\d{1,12}(?:\.\d{1,9})?)\s*+MiB"
)
_FIELDS = {
    "model": "model_bytes",
    "KV": "kv_bytes",
    "RS": "recurrent_bytes",
    "compute": "compute_bytes",
    "output": "output_bytes",
}


def read_log(path: Path) -> str:
    """The log from its beginning (at most 8 MiB: a load takes a few hundred lines); "" if there is none."""
    try:
        with path.open("rb") as file:
            return file.read(_READ_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""


def parse_buffers(log: str) -> BufferSizes | None:
    """The buffers of the model and its context; None if the log names none.

    A context begins with "constructing llama_context". Inside one, caches add up (a model with a sliding window has
    two, a hybrid one a KV cache and a recurrent state), while the compute and output buffers are printed anew each
    time they are reserved: the last counts. Of several contexts (probes of what fits come first and print zeros) the
    largest counts, which also leaves out a small draft model's.
    """
    model: dict[str, int] = {}
    best: dict[str, dict[str, int]] = {}
    context: dict[str, dict[str, int]] = {}

    def close_context() -> None:
        nonlocal best
        if _sum(context) > _sum(best) or not best:
            best = {kind: dict(sizes) for kind, sizes in context.items()}
        context.clear()

    loading: dict[str, int] = {}
    for line in log.splitlines():
        if "constructing llama_context" in line:
            close_context()
        elif "loading model tensors" in line:
            loading = {}
        elif found := _BUFFER.search(line):
            _, device, kind, mebibytes = found.groups()
            size = round(float(mebibytes) * _MIB)
            if kind == "model":
                loading[device] = loading.get(device, 0) + size
                if sum(loading.values()) >= sum(model.values()):
                    model = loading
            elif kind in {"KV", "RS"}:
                sizes = context.setdefault(kind, {})
                sizes[device] = sizes.get(device, 0) + size
            else:
                context.setdefault(kind, {})[device] = size
    close_context()
    if model:
        best["model"] = model
    return BufferSizes(**{_FIELDS[kind]: sizes for kind, sizes in best.items()}) if best else None


def _sum(context: dict[str, dict[str, int]]) -> int:
    return sum(sum(sizes.values()) for sizes in context.values())


class LoadDiagnosis(NamedTuple):
    """Why a load failed: the reason, the telling line of the log or a sentence, and what to do."""

    reason: LoadFailure
    sentence: str
    hint: str


_OUT_OF_MEMORY_HINT = "use a smaller quant or context, a quantized KV cache, or fewer layers on the GPU"
_NEWER_HINT = "a newer engine may know it"
_TENSORS_HINT = "a newer engine may know it; otherwise the file was converted or quantized wrongly"
_FILE_HINT = "fetch the file again, and check its sha256"
_OPEN_HINT = "see whether it is there and may be read by the user who runs the engine"
_SETTINGS_HINT = "change the engine settings of this model in the spec"
_LOG_HINT = "the end of its log says more"
_BUILD_HINT = "install what the program needs, or build it anew"
_CARD_HINT = "get a build for this card and its driver: docs/gpu-builds.md says how"
_PORT_HINT = "see what takes ports on 127.0.0.1 so fast"


def _sign(pattern: str) -> re.Pattern[str]:
    """In any letter case; what may stand anywhere in a line begins at its start, so that it is gone through once."""
    return re.compile(pattern, re.IGNORECASE)


# The first pattern that is found names the reason; the line it is found in is shown.
_SIGNS: tuple[tuple[re.Pattern[str], LoadFailure, str], ...] = (
    (_sign(r"unknown model architecture"), "unknown_architecture", _NEWER_HINT),
    (_sign(r"unknown pre-tokenizer|unknown tokenizer|unsupported model"), "unknown_architecture", _NEWER_HINT),
    (_sign(r"(invalid|unknown) ggml.type"), "unknown_architecture", _NEWER_HINT),
    (_sign(r"out of memory|OutOfDeviceMemory|OutOfHostMemory|std::bad_alloc"), "out_of_memory", _OUT_OF_MEMORY_HINT),
    (_sign(r"^(?>.*?(?:failed|unable) to allocate ).*(?:buffer|memory|cache)"), "out_of_memory", _OUT_OF_MEMORY_HINT),
    (_sign(r"cannot allocate memory|mmap failed"), "out_of_memory", _OUT_OF_MEMORY_HINT),
    (_sign(r"no kernel image is available|driver version is insufficient"), "bad_build", _CARD_HINT),
    (_sign(r"quantized V cache|V cache quantization requires"), "refused_here", _SETTINGS_HINT),
    (_sign(r"invalid device"), "refused_here", _SETTINGS_HINT),
    (_sign(r"^(?>.*?cache type ).* does not divide|unsupported cache type"), "bad_settings", _SETTINGS_HINT),
    (_sign(r"invalid argument|error while handling argument|unknown value for"), "bad_settings", _SETTINGS_HINT),
    (_sign(r"failed to open GGUF file"), "no_file", _OPEN_HINT),
    (_sign(r"invalid magic|not within the file bounds|corrupted or incomplete"), "bad_file", _FILE_HINT),
    (_sign(r"\bgguf_init_from\w++: failed"), "bad_file", _FILE_HINT),
    (_sign(r"missing tensor|wrong number of tensors|wrong shape"), "unknown_architecture", _TENSORS_HINT),
    (_sign(r"error loading model (hyperparameters|vocabulary)"), "unknown_architecture", _TENSORS_HINT),
    (_sign(r"libgomp\.so\.1: cannot open"), "bad_build", "install the OpenMP runtime: apt-get install libgomp1"),
    (_sign(r"error while loading shared libraries|symbol lookup error"), "bad_build", _BUILD_HINT),
    (_sign(r"couldn't bind|address already in use"), "port_taken", _PORT_HINT),
    (_sign(r"error loading model|failed to load model"), "exited", _LOG_HINT),
)
_STAMP = re.compile(r"^[\d.]+ [A-Z] (?:(?:srv|cmn|slot|spec|que)\s+)?")
# Information lines repeat metadata of the file, which may say anything.
_INFORMATION = re.compile(r"^[\d.]+ I ")
_METADATA = "llama_model_loader: - kv"
_ERROR = re.compile(r"^[\d.]+ E ")


# Of one line of a log, in a message that goes to rows, the journal and the terminal.
_MOST_CHARACTERS = 400


def diagnose(log: str, exit_code: int | None, memory_kills: int | None = None) -> LoadDiagnosis:
    """Why the engine ended while loading.

    Args:
        log: what it wrote.
        exit_code: minus the number of the signal that ended it; None if nobody could tell.
        memory_kills: processes that the kernel ended for want of memory since it was started; None: unknown.
    """
    lines = [line for line in log.splitlines() if not _INFORMATION.match(line)]
    for pattern, reason, hint in _SIGNS:
        for line in lines:
            if pattern.search(line):
                return LoadDiagnosis(reason, _shown(line), hint)
    if exit_code in {-signal.SIGKILL, None} and memory_kills:
        said = "it was killed, and the kernel ended processes for want of memory meanwhile"
        return LoadDiagnosis("out_of_memory", said, _OUT_OF_MEMORY_HINT)
    if exit_code == -signal.SIGKILL and memory_kills is None:
        said = "it was killed (signal 9), most likely for want of memory"
        return LoadDiagnosis("out_of_memory", said, _OUT_OF_MEMORY_HINT)
    if exit_code == -signal.SIGILL:
        hint = "build the engine on this machine, or for this CPU"
        return LoadDiagnosis("bad_build", "it holds instructions that this CPU does not have", hint)
    error = next((line for line in lines if _ERROR.match(line)), None)
    if error is not None:
        return LoadDiagnosis("exited", _shown(error), _LOG_HINT)
    if exit_code is None:
        return LoadDiagnosis("exited", "it ended, and what watched over it was not there to say how", _LOG_HINT)
    last = last_line(log)
    said = f"; the last line of its log: {last}" if last else ""
    if exit_code == -signal.SIGKILL:
        killed = "it was killed (signal 9), and not by the kernel for want of memory"
        return LoadDiagnosis("exited", f"{killed}{said}", "see who ends processes on this machine")
    if exit_code < 0:
        return LoadDiagnosis("exited", f"it ended by signal {-exit_code}{said}", _LOG_HINT)
    return LoadDiagnosis("exited", f"it ended with exit code {exit_code}{said}", _LOG_HINT)


def last_line(log: str) -> str:
    """The last line that says something of the load, as it is shown; "" if none does."""
    lines = (line for line in reversed(log.splitlines()) if line.strip() and _METADATA not in line)
    return _shown(next(lines, ""))


def _shown(line: str) -> str:
    """The line without its time stamp, and not longer than a message bears."""
    text = _STAMP.sub("", line.strip())
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."
