"""Engine settings as llama-server's flags, for whichever build is there.

Builds come and go with flags. What only keeps a server honest (no fitting, no prompt cache, more in the log) is left
out where a build does not know it; a setting of the spec that a build cannot follow is an error, never dropped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runners.engines.base import LoadError

if TYPE_CHECKING:
    from pathlib import Path

    from runners.engines.llama_program import Program
    from runners.engines.settings import LlamaServerSettings, TextFile

# More than any model has: all layers, in every build (the default was none until 2025).
_ALL_LAYERS = 999

# Flags without a setting, given where the build knows them.
_ALWAYS: tuple[tuple[str, ...], ...] = (
    ("--fit", "off"),  # it would change the settings to make the model fit
    ("--no-cache-prompt",),
    ("--cache-ram", "0"),
    ("--ctx-checkpoints", "0"),  # they serve the prompt cache alone
    ("--offline",),
    ("--jinja",),  # the model's own chat template; the default since late 2025
    ("--no-context-shift",),  # a full context ends the reply; since mid-2025 the default
)


def command_line(
    program: Program,
    model: Path,
    settings: LlamaServerSettings,
    *,
    port: int,
    alias: str,
    device: str | None,
    texts: Path,
    tensor_split: tuple[float, ...] | None = None,
) -> list[str]:
    """The whole command; texts that settings point to are written into the folder `texts`, for the server to read.

    Raises:
        LoadError: this build cannot do what a setting asks for.
    """
    argv = [str(program.path), "--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--alias", alias]
    argv += ["--ctx-size", str(settings.context * settings.slots), "--parallel", str(settings.slots)]
    argv += ["--batch-size", str(settings.batch), "--ubatch-size", str(settings.ubatch)]
    for flags in _ALWAYS:
        if program.knows(flags[0]):
            argv += flags
    argv += _verbosity(program)
    argv += _placement(program, settings, device)
    argv += _spread(program, settings, tensor_split)
    argv += _cache(program, settings)
    argv += _reasoning(program, settings)
    argv += _text(program, "--chat-template-file", "chat_template", settings.chat_template, texts)
    argv += _text(program, "--grammar-file", "grammar", settings.grammar, texts)
    return [*argv, *settings.extra_args]


def _need(program: Program, flag: str, setting: str) -> str:
    """`flag`, if the build has it."""
    if program.knows(flag):
        return flag
    message = f"{program.path} ({program.build}) has no {flag}, which the setting {setting} needs"
    raise LoadError(message, hint="use a newer build, or leave the setting out", reason="bad_settings")


def _text(program: Program, flag: str, setting: str, file: TextFile | None, folder: Path) -> list[str]:
    """The flag with a copy of what the plan holds: the file that it was read from may be gone, or another by now."""
    if file is None:
        return []
    path = folder / setting
    path.write_text(file.text, encoding="utf-8", newline="")
    return [_need(program, flag, setting), str(path)]


def _verbosity(program: Program) -> list[str]:
    # Since late 2025 buffer sizes are logged at level 4, "trace"; before, always, and 4 meant debugging output.
    levels = re.search(r"--verbosity.{0,600}?4: trace", program.help_text, re.DOTALL)
    return ["--verbosity", "4"] if levels else []


def _placement(program: Program, settings: LlamaServerSettings, device: str | None) -> list[str]:
    argv: list[str] = []
    layers = _ALL_LAYERS if settings.gpu_layers is None else settings.gpu_layers
    if device == "CPU":
        layers = 0
        if program.knows("--device"):
            argv += ["--device", "none"]
    elif device is not None:
        argv += [_need(program, "--device", f"device = {device}"), device]
    argv += ["--gpu-layers" if program.knows("--gpu-layers") else "--n-gpu-layers", str(layers)]
    if settings.cpu_moe_layers:
        argv += [_need(program, "--n-cpu-moe", "cpu_moe_layers"), str(settings.cpu_moe_layers)]
    if settings.threads is not None:
        argv += ["--threads", str(settings.threads)]
    if not settings.mmap:
        argv += ["--load-mode", "none"] if program.knows("--load-mode") else [_need(program, "--no-mmap", "mmap")]
    return argv


def _spread(program: Program, settings: LlamaServerSettings, shares: tuple[float, ...] | None) -> list[str]:
    """How a model lies on several devices; the shares are always given, as the engine's own follow free memory."""
    if shares is None:
        return []
    argv = [_need(program, "--tensor-split", "devices"), ",".join(f"{share:g}" for share in shares)]
    if settings.split_mode is not None:
        argv += [_need(program, "--split-mode", "split_mode"), settings.split_mode]
    return argv


def _cache(program: Program, settings: LlamaServerSettings) -> list[str]:
    argv = ["--cache-type-k", settings.cache_type_k, "--cache-type-v", settings.cache_type_v]
    # Until August 2025 a switch without a value: off unless given, with no "auto".
    takes_value = re.search(r"--flash-attn\s+\[?(on|\{|FA)", program.help_text)
    if takes_value:
        argv += ["--flash-attn", settings.flash_attention]
    elif settings.flash_attention == "on":
        argv += [_need(program, "--flash-attn", "flash_attention")]
    if settings.swa_full:
        argv += [_need(program, "--swa-full", "swa_full")]
    return argv


def _reasoning(program: Program, settings: LlamaServerSettings) -> list[str]:
    argv: list[str] = []
    budget = settings.reasoning_budget
    if settings.reasoning != "auto" and program.knows("--reasoning"):
        argv += ["--reasoning", settings.reasoning]
    elif settings.reasoning == "off":
        # Builds before --reasoning switch thinking off in the template with a budget of 0.
        budget = 0
    if budget is not None:
        argv += [_need(program, "--reasoning-budget", "reasoning"), str(budget)]
    return argv
