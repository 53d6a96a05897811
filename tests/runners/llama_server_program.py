"""A llama-server program for tests: llama.cpp's real HTTP server, from xllamacpp, behind llama-server's command line.

What is real: loading, the protocol, streaming, timings, errors, the log. What is ours: reading the flags (the subset
`runners.engines.llama_flags` writes, refused when unknown, as the original does) and what `--version`, `--help` and
`--list-devices` print. So these tests need no compiler; with LLAMA_SERVER set they also run against the original.
"""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any, NoReturn

VERSION = "version: 11549 (c0ffee0)\nbuilt with xllamacpp for tests"
_FLAGS = {
    "-m,    --model": "FNAME",
    "-a,    --alias": "STRING",
    "-c,    --ctx-size": "N",
    "-np,   --parallel": "N",
    "-b,    --batch-size": "N",
    "-ub,   --ubatch-size": "N",
    "-t,    --threads": "N",
    "-ngl,  --gpu-layers, --n-gpu-layers": "N",
    "-ncmoe, --n-cpu-moe": "N",
    "-dev,  --device": "<dev1,dev2,..>",
    "-sm,   --split-mode": "{none,layer,row,tensor}",
    "-ts,   --tensor-split": "N0,N1,N2,...",
    "-fa,   --flash-attn": "[on|off|auto]",
    "-ctk,  --cache-type-k": "TYPE",
    "-ctv,  --cache-type-v": "TYPE",
    "-lm,   --load-mode": "MODE",
    "-cram, --cache-ram": "N",
    "-ctxcp, --ctx-checkpoints": "N",
    "-fit,  --fit": "[on|off]",
    "-rea,  --reasoning": "[on|off|auto]",
    "--reasoning-budget": "N",
    "--chat-template-file": "JINJA_TEMPLATE_FILE",
    "--host": "HOST",
    "--port": "PORT",
    "-lv,   --verbosity, --log-verbosity": "N",
    "--swa-full": "",
    "--no-cache-prompt": "",
    "--offline": "",
    "--jinja": "",
    "--no-context-shift": "",
    "--list-devices": "",
    "--version": "",
}


def install(folder: Path) -> Path:
    """An executable `llama-server` in `folder` that runs this module."""
    program = folder / "llama-server"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P "{__file__}" "$@"\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: invalid argument: {message}\n\nto show complete usage, run with -h\n")
        raise SystemExit(1)


def _help() -> str:
    lines = [f"{names + ' ' + value:<39} {names.split()[-1]} of llama-server" for names, value in _FLAGS.items()]
    return "----- common params -----\n\n" + "\n".join(lines) + "\n" + " " * 40 + "- 4: trace (more info)\n"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(add_help=False, allow_abbrev=False)
    for names, value in _FLAGS.items():
        flags = [name.strip() for name in names.split(",")]
        destination = {"dest": flags[1 if len(flags) > 1 else 0].lstrip("-").replace("-", "_")}
        parser.add_argument(*flags, **destination, **({} if value else {"action": "store_true"}))  # type: ignore[arg-type]  # argparse takes either
    return parser.parse_args(arguments)


def _parameters(given: argparse.Namespace) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = given.model
    parameters.model_alias = {given.alias}
    parameters.hostnames = [given.host]
    parameters.port = int(given.port)
    parameters.api_keys = [key] if (key := os.environ.get("LLAMA_API_KEY")) else []
    parameters.verbosity = int(given.verbosity or 3)
    parameters.fit_params = given.fit != "off"
    parameters.cache_prompt = not given.no_cache_prompt
    parameters.cache_ram_mib = int(given.cache_ram or 8192)
    parameters.n_ctx = int(given.ctx_size)
    parameters.n_parallel = int(given.parallel)
    parameters.n_batch = int(given.batch_size)
    parameters.n_ubatch = int(given.ubatch_size)
    parameters.cache_type_k = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + given.cache_type_k.upper())
    parameters.cache_type_v = getattr(xllamacpp.ggml_type, "GGML_TYPE_" + given.cache_type_v.upper())
    flash = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}[given.flash_attn]
    parameters.flash_attn_type = getattr(xllamacpp.llama_flash_attn_type, "LLAMA_FLASH_ATTN_TYPE_" + flash)
    parameters.swa_full = given.swa_full
    if given.chat_template_file:
        parameters.chat_template = Path(given.chat_template_file).read_text(encoding="utf-8")
    if given.load_mode == "none":
        parameters.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    if given.threads:
        parameters.cpuparams.n_threads = int(given.threads)
    if given.reasoning in {"on", "off"}:
        parameters.enable_reasoning = int(given.reasoning == "on")
        parameters.default_template_kwargs = {"enable_thinking": "true" if given.reasoning == "on" else "false"}
    if given.reasoning_budget:
        parameters.sampling.reasoning_budget_tokens = int(given.reasoning_budget)
    return parameters


def main() -> None:
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(_help())
        return
    given = _parse(arguments)
    if given.version:
        print(VERSION, file=sys.stderr)
        return
    if given.list_devices:
        print("Available devices:\n  (none)")
        return

    import xllamacpp

    try:
        server = xllamacpp.Server(_parameters(given))
    except RuntimeError as error:
        sys.path.insert(0, str(Path(__file__).parents[2]))
        from runners.engines.embedded_child import settle_log

        settle_log()
        print(f"llama-server: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    assert server.listening_address
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
