"""The embedded engine: llama.cpp's own server from the xllamacpp wheel, in a process of its own. Needs nothing else."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from runners.engines.base import (
    EngineInfo,
    EngineUnavailable,
    EngineUnavailableError,
    LoadError,
    Served,
)
from runners.engines.llama_cpp import new_key, server_environment, variables
from runners.engines.llama_load import LoadPatience, bring_up
from runners.engines.settings import EmbeddedSettings, of_kind
from runners.process import ProcessStartError, ServerProcess

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from runners.engines.base import OnSpawn
    from runners.engines.settings import EngineSettings

KIND = "embedded"
_CHILD = Path(__file__).with_name("embedded_child.py")
_ALL_LAYERS = 999
_DEVICES_TIMEOUT_S = 60.0
_PASSED_ON = (
    "context",
    "slots",
    "cpu_moe_layers",
    "threads",
    "cache_type_k",
    "cache_type_v",
    "flash_attention",
    "batch",
    "ubatch",
    "mmap",
    "split_mode",
    "swa_full",
    "reasoning",
    "reasoning_budget",
)
# How each backend is told which of its devices it may see.
_VISIBLE = {"CUDA": "CUDA_VISIBLE_DEVICES", "ROCm": "HIP_VISIBLE_DEVICES", "Vulkan": "GGML_VK_VISIBLE_DEVICES"}


class EmbeddedEngine:
    """Follows `runners.engines.base.Engine`."""

    kind = KIND

    def __init__(self, *, binary: str | None = None) -> None:
        if binary is not None:
            raise EngineUnavailableError(
                f"the embedded engine has no program of its own, so binary = {binary!r} means nothing to it",
                'leave binary out, or use kind = "llama-server"',
            )

    def available(self) -> EngineInfo | EngineUnavailable:
        """Whether xllamacpp is installed; its devices are asked for in a process of their own, once."""
        if importlib.util.find_spec("xllamacpp") is None:
            hint = "install it: python -m pip install xllamacpp"
            return EngineUnavailable(kind=KIND, reason="xllamacpp is not installed", hint=hint)
        found = _devices()
        if isinstance(found, str):
            hint = "install a wheel of xllamacpp made for this machine"
            if "libgomp" in found:
                hint = "install the OpenMP runtime: apt-get install libgomp1 (or your system's package of that name)"
            return EngineUnavailable(kind=KIND, reason=f"xllamacpp does not work here: {found}", hint=hint)
        return EngineInfo(kind=KIND, build=_build(), devices=found)

    def load(
        self,
        model: Path,
        settings: EngineSettings,
        *,
        log_path: Path,
        device: str | None = None,
        cancelled: threading.Event | None = None,
        on_spawn: OnSpawn | None = None,
        held: tuple[int, ...] = (),
        visible: tuple[str, ...] = (),
        tensor_split: tuple[float, ...] | None = None,
    ) -> Served:
        """Serve `model`. `device` hides the others from llama.cpp; "CPU" keeps everything off the GPUs."""
        own = of_kind(settings, EmbeddedSettings)
        there = self.available()
        if isinstance(there, EngineUnavailable):
            raise EngineUnavailableError(there.reason, there.hint)
        if not _is_utf8(model):
            hint = 'rename it, or use kind = "llama-server"'
            raise LoadError(
                "the embedded engine opens no file whose name is not UTF-8", hint=hint, reason="bad_settings"
            )
        alias = f"quantsweep-{uuid.uuid4().hex}"
        argv = [
            sys.executable,
            "-P",
            str(_CHILD),
            json.dumps(_child_settings(model, own, alias, device, tensor_split)),
        ]
        key = new_key()
        environment = server_environment(key, **(_visible_devices(device, there.devices) | variables(visible)))
        try:
            process = ServerProcess.start(argv, log_path=log_path, environment=environment, held=held)
        except ProcessStartError as error:
            raise EngineUnavailableError(error.message, error.hint) from None
        try:
            if on_spawn is not None:
                on_spawn(process.pid)
            base_url = _await_address(process, settings.load_timeout_s, cancelled)
        except BaseException:
            process.stop()
            raise
        served = bring_up(
            process,
            kind=KIND,
            base_url=base_url,
            alias=alias,
            key=key,
            engine_build=there.build,
            settings=own,
            cancelled=cancelled,
        )
        if served is None:
            raise LoadError(f"another program answers at {base_url}", hint="start the sweep again", reason="port_taken")
        return served


def _is_utf8(path: Path) -> bool:
    """Whether xllamacpp, which takes text, can be told the path; other bytes of a name stand in it as surrogates."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _child_settings(
    model: Path,
    settings: EmbeddedSettings,
    alias: str,
    device: str | None,
    tensor_split: tuple[float, ...] | None = None,
) -> dict[str, object]:
    """What `embedded_child.serve` reads."""
    cpu_only = device == "CPU"
    layers = _ALL_LAYERS if settings.gpu_layers is None else settings.gpu_layers
    return {
        **{name: getattr(settings, name) for name in _PASSED_ON},
        "model": str(model),
        "alias": alias,
        "cpu_only": cpu_only,
        "gpu_layers": 0 if cpu_only else layers,
        "tensor_split": tensor_split,
    }


def _visible_devices(device: str | None, listed: Sequence[str]) -> dict[str, str]:
    """The variable that leaves llama.cpp only `device` (names like CUDA0, joined by commas) of those that it lists.

    Vulkan's numbers its devices before llama.cpp leaves some out (a CPU's driver, a card that is there twice): set for
    a backend's only device it could hide that one.
    """
    if device is None or device == "CPU":
        return {}
    variables: dict[str, list[str]] = {}
    for name in device.split(","):
        found = re.fullmatch(r"([A-Za-z]+)(\d+)", name.strip())
        if found is None or found[1] not in _VISIBLE:
            continue  # a backend with a single device, as Metal
        if found[1] == "Vulkan" and sum(each.startswith("Vulkan") for each in listed) == 1:
            continue
        variable = _VISIBLE[found[1]]
        # A list that is set already renumbers the devices: ours are places in it.
        there = [part for part in os.environ.get(variable, "").split(",") if part]
        index = int(found[2])
        variables.setdefault(variable, []).append(there[index] if index < len(there) else found[2])
    return {variable: ",".join(values) for variable, values in variables.items()}


def _await_address(process: ServerProcess, timeout_s: float, cancelled: threading.Event | None) -> str:
    """Where the child listens; it says so once the model is loaded."""
    patience = LoadPatience(process, KIND, timeout_s, cancelled)
    while (url := process.told("url", timeout_s=0.05)) is None:
        patience.check()
    return str(url)


def _build() -> str:
    return f"xllamacpp {importlib.metadata.version('xllamacpp')}"


_known_devices: list[tuple[str, ...]] = []


def _devices() -> tuple[str, ...] | str:
    """The devices besides the CPU, or why there is no asking; only an answer is remembered, a failure may pass."""
    if not _known_devices:
        found = _ask_devices()
        if isinstance(found, str):
            return found
        _known_devices.append(found)
    return _known_devices[0]


def _ask_devices() -> tuple[str, ...] | str:
    argv = [sys.executable, "-P", str(_CHILD), "--devices"]
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=_DEVICES_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env=server_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    try:
        names = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return lines[-1]
    return tuple(name for name in names if name != "CPU")
