"""The oracle: what the node's own engine would allocate, asked with a header alone.

`llama-fit-params -fitp on` loads a model without its weights and prints what every device would hold. It wants a file
of full size, so one is made whose header is real and whose rest is a hole. It answers for every architecture that the
build knows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from profiles.environment import engine_environment
from profiles.override import load_override
from profiles.programs import PLANNER, NotHereError, find_llama_server, find_planner
from quants.errors import QuantsError
from quants.footprint import DeviceFootprint, Estimator, Footprint, FootprintSettings
from quants.footprint.overhead import engine_overhead
from quants.gguf import Header, combine, read_header

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = PLANNER
MIB: Final = 1024 * 1024
# It can exit before its output is written: a race within the program, which a second run mends.
_TRIES: Final = 3
_TIMEOUT_S: Final = 120.0
_LAYERS: Final = 999
_ROW: Final = re.compile(r"^(\S+) (\d+) (\d+) (\d+)\s*$", re.MULTILINE)
_FORMAT: Final = 1  # of cached answers; raised when what they mean changes


class DryLoadError(QuantsError):
    """The engine could not be asked, or did not answer."""


@dataclass(frozen=True, slots=True)
class HeaderFile:
    """The beginning of one model file, enough for the engine to plan with.

    Attributes:
        name: of the file, without folders; the shards of a split set need the names they were made with.
        data: its header, at least up to the tensor data.
        file_bytes: the size of the whole file.
    """

    name: str
    data: bytes
    file_bytes: int


def header_files(paths: Sequence[str | os.PathLike[str]]) -> tuple[HeaderFile, ...]:
    """The header files of local model files (all shards of a split set), with the sizes they have on disk.

    Raises:
        GGUFError: one has no sound header.
        OSError: one cannot be read.
    """
    found = []
    for path in map(Path, paths):
        offset = read_header(path).data_offset
        with path.open("rb") as file:
            data = file.read(offset)
        found.append(HeaderFile(path.name, data, path.stat().st_size))
    return tuple(found)


def find_program(server: str | os.PathLike[str] | None = None) -> Path:
    """The node's `llama-fit-params`: beside the llama-server that is used here, else on PATH.

    Args:
        server: the llama-server whose build should answer; None: the one that a sweep would start on this machine.

    Raises:
        DryLoadError: it is in neither place, or the server that somebody named is not there.
        OverrideError: machine.toml, which may name the server, is not valid.
    """
    try:
        used = Path(server) if server is not None else find_llama_server(of_owner=load_override().llama_server).path
    except NotHereError as why:
        if why.is_named:
            raise DryLoadError(str(why), "Mend that, or use the estimate instead") from None
        used = None
    found = find_planner(used)
    if found is None:
        hint = (
            "It comes with llama.cpp since late 2025: install a build that has it, or name the llama-server beside it"
        )
        raise DryLoadError(f"{PROGRAM} is not here", hint)
    return found


def dry_load(
    files: Sequence[HeaderFile],
    settings: FootprintSettings,
    *,
    program: Path | None = None,
    cache: Path | None = None,
) -> Footprint:
    """What the engine would allocate for a model, by its own planner, corrected for what a server does otherwise.

    The program counts caches and recurrent state together; both are given as `kv_bytes`. Figures are whole MiB, so
    each is rounded up by one. `llama-fit-params` reserves logits for a whole batch where llama-server does so for its
    slots: where the architecture is known to the estimator the difference is taken off, else it stays in.

    Args:
        files: the model's header, or those of all shards.
        settings: of the engine; `gpus` must be the GPUs that the engine sees, or 0.
        program: `llama-fit-params`; by default as `find_program` finds it.
        cache: folder for answers; by default below the user's cache folder.

    Raises:
        DryLoadError: no program, a setting it cannot plan with, or no answer; says which.
        GGUFError: no sound header.
    """
    program = find_program() if program is None else program
    build, help_text = _ask(program)
    arguments = _arguments(settings, help_text, program)
    digest = hashlib.sha256()
    for part in (build, *arguments):
        digest.update(part.encode() + b"\0")
    for file in files:
        digest.update(f"{file.name}\0{file.file_bytes}\0{len(file.data)}\0".encode() + file.data)
    kept = (cache or _cache_folder()) / f"{digest.hexdigest()[:40]}.json"
    rows = _remembered(kept)
    if rows is None:
        rows = _rows(_run(program, arguments, files), program)
        _remember(kept, rows)
    header = combine([read_header(file.data, where=file.name) for file in files])
    return _footprint(header, settings, rows, build)


def _arguments(settings: FootprintSettings, help_text: str, program: Path) -> list[str]:
    """The flags of the planner for these settings, less `-m`."""
    layers = _LAYERS if settings.gpu_layers is None else settings.gpu_layers
    arguments = ["-c", str(settings.total_context), "-np", str(settings.slots)]
    arguments += ["-b", str(settings.batch), "-ub", str(settings.ubatch)]
    arguments += ["-ctk", settings.cache_type_k, "-ctv", settings.cache_type_v]
    arguments += ["-fa", "on" if settings.flash_attention else "off", "-ngl", str(layers if settings.gpus else 0)]
    # Repacked weights are missing from its output; in their own order they are counted, and take as much room.
    wanted: list[tuple[str, list[str]]] = [("--no-repack", [])]
    if not settings.gpus:
        wanted.append(("--device", ["none"]))
    if settings.cpu_moe_layers:
        wanted.append(("--n-cpu-moe", [str(settings.cpu_moe_layers)]))
    if settings.tensor_split is not None:
        wanted.append(("--tensor-split", [",".join(map(str, settings.tensor_split))]))
    if settings.unified_kv and settings.slots > 1:
        wanted.append(("--kv-unified", []))
    if settings.swa_full:
        wanted.append(("--swa-full", []))
    if not settings.kv_on_gpu:
        wanted.append(("--no-kv-offload", []))
    for flag, values in wanted:
        if flag not in help_text:
            raise DryLoadError(f"{program} has no {flag}, which these settings need", "Use the estimate instead")
        arguments += [flag, *values]
    return [*arguments, "-fitp", "on"]


@lru_cache(maxsize=8)
def _asked(program: Path, _changed_ns: int) -> tuple[str, str]:
    texts = []
    for flag in ("--version", "--help"):
        try:
            answer = subprocess.run(
                [program, flag],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
                env=engine_environment(),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DryLoadError(f"{program} does not run: {error}", "Check the build") from error
        texts.append(answer.stdout + answer.stderr)
    found = re.search(r"version: (.+)", texts[0])
    if found is None:
        raise DryLoadError(f"{program} does not say its version", "Name the llama-fit-params of a llama.cpp build")
    return found[1].strip(), texts[1]


def _ask(program: Path) -> tuple[str, str]:
    """Its build and its help text."""
    try:
        changed = program.stat().st_mtime_ns
    except OSError as error:
        raise DryLoadError(f"{program} cannot be used: {error.strerror or error}", "Name another build") from error
    return _asked(program, changed)


def _run(program: Path, arguments: list[str], files: Sequence[HeaderFile]) -> str:
    """The planner's output for a sparse copy of the files."""
    # Crashes are reported by exit status; a debugger attached to each would only cost seconds.
    environment = engine_environment(GGML_NO_BACKTRACE="1")
    with tempfile.TemporaryDirectory(prefix="quantsweep-dryload-") as folder:
        paths = [_sparse(Path(folder), file) for file in files]
        argv = [str(program), "-m", str(paths[0]), *arguments]
        for _ in range(_TRIES):
            try:
                answer = subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    timeout=_TIMEOUT_S,
                    check=False,
                    env=environment,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise DryLoadError(f"{program} did not answer: {error}", "Use the estimate instead") from error
            if answer.returncode == 0 and _ROW.search(answer.stdout):
                return answer.stdout
            if answer.returncode != 0:
                break
    raise DryLoadError(f"{program.name} gave no plan for {files[0].name}: {_why(answer)}", "Use the estimate instead")


def _why(answer: subprocess.CompletedProcess[str]) -> str:
    """The line of a failed run that says most."""
    lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
    for line in lines:
        # Its log: time, level (E for errors), text. The first error is the cause, those behind it follow from it.
        error = re.match(r"[\d.]+ E (.+)", line)
        if error:
            return error[1]
    return lines[-1] if lines else f"exit status {answer.returncode} without a word"


def _sparse(folder: Path, file: HeaderFile) -> Path:
    """A file of full size of which only the header takes room."""
    path = folder / Path(file.name).name
    try:
        with path.open("wb") as target:
            target.write(file.data)
            target.truncate(max(file.file_bytes, len(file.data)))
    except OSError as error:
        message = f"cannot make a sparse file of {file.file_bytes:,} bytes in {folder}: {error.strerror or error}"
        raise DryLoadError(message, "Point TMPDIR at a file system that supports sparse files") from error
    return path


def _rows(text: str, program: Path) -> dict[str, tuple[int, int, int]]:
    """Model, context and compute in MiB by device."""
    rows = {name: (int(model), int(context), int(compute)) for name, model, context, compute in _ROW.findall(text)}
    if "Host" not in rows:
        raise DryLoadError(f"{program.name} printed no line for the host", "Use the estimate instead")
    return rows


def _footprint(
    header: Header, settings: FootprintSettings, rows: dict[str, tuple[int, int, int]], build: str
) -> Footprint:
    estimator = Estimator(header)
    gpus = [name for name in rows if name != "Host"]
    if settings.gpus and len(gpus) < settings.gpus:
        raise DryLoadError(
            f"the engine sees {len(gpus)} GPUs, the settings want {settings.gpus}", "Ask on the node that has them"
        )
    surplus = _surplus(estimator, settings)
    devices = []
    for device, name in (("host", "Host"), *((f"gpu{index}", name) for index, name in enumerate(gpus))):
        model, context, compute = (_up(value) for value in rows[name])
        devices.append(
            DeviceFootprint(
                device=device,
                weights_bytes=model,
                kv_bytes=context,
                compute_bytes=max(compute - surplus.get(device, 0), 0),
                output_bytes=_outputs(estimator, settings) if device == "host" else 0,
                overhead_bytes=engine_overhead(settings.backend, device),
            )
        )
    return Footprint(
        method="engine",
        architecture=header.architecture,
        settings=settings,
        devices=tuple(devices),
        layers=0 if estimator.model is None else len(estimator.model.layers) + 1,
        trained_context=header.integer("{arch}.context_length"),
        reason=f"planned by llama.cpp {build}",
    )


def _up(mib: int) -> int:
    """Bytes of a figure that was rounded down to whole MiB; nothing stays nothing."""
    return (mib + 1) * MIB if mib else 0


def _outputs(estimator: Estimator, settings: FootprintSettings) -> int:
    return 0 if estimator.model is None else estimator.model.vocab * settings.slots * 4


def _surplus(estimator: Estimator, settings: FootprintSettings) -> dict[str, int]:
    """By how much the planner's compute buffers exceed a server's: logits of a whole batch may be their peak."""
    if estimator.model is None:
        return {}
    with_slots = estimator(settings)
    with_batch = estimator(replace(settings, outputs=settings.batch))
    pairs = zip(with_batch.devices, with_slots.devices, strict=True)
    return {batch.device: batch.compute_bytes - slots.compute_bytes for batch, slots in pairs}


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "quantsweep" / "dryload"


def _remembered(path: Path) -> dict[str, tuple[int, int, int]] | None:
    """An answer of before; None if there is none, or none that can be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] != _FORMAT:
            return None
        return {str(name): (int(row[0]), int(row[1]), int(row[2])) for name, row in kept["rows"].items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None


def _remember(path: Path, rows: dict[str, tuple[int, int, int]]) -> None:
    """Keep an answer; a cache that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "rows": rows}, file)
        Path(file.name).replace(path)
    except OSError:
        return
