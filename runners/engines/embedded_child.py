"""The embedded engine's process: serves one model with xllamacpp's llama.cpp server on a free loopback port.

Run by path, so that it needs nothing of ours on its import path: `python -P embedded_child.py JSON`, where JSON holds
the settings `serve` reads; or `--devices`, which prints the devices xllamacpp can use as JSON. Where it listens goes to
the descriptor that QUANTSWEEP_STATUS_FD names, as one JSON line, once the model is loaded. It answers those who have
the key in LLAMA_API_KEY.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

LOAD_FAILED = 3
BAD_SETTINGS = 4
_LOG_QUIET_S = 0.3
_LOG_WAIT_S = 5.0
# The routed experts' tensors of a layer, as llama.cpp's --n-cpu-moe selects them (LLM_FFN_EXPS_REGEX).
_EXPERTS_OF_LAYER = r"blk\.{layer}\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU"


def _member(enumeration: Any, prefix: str, name: str) -> Any:
    try:
        return getattr(enumeration, prefix + name.upper())
    except AttributeError:
        sys.stderr.write(f"error: invalid argument: this build of xllamacpp knows no {name!r}\n")
        raise SystemExit(BAD_SETTINGS) from None


def _parameters(settings: dict[str, Any]) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["model"]
    parameters.model_alias = {settings["alias"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    # Not among the settings: those stand on the command line, which every user of the machine can read.
    parameters.api_keys = [os.environ["LLAMA_API_KEY"]]
    parameters.offline = True
    parameters.verbosity = 4  # from here on llama.cpp logs the sizes of its buffers
    parameters.fit_params = False  # it would change the settings to make the model fit
    parameters.cache_prompt = False
    parameters.cache_ram_mib = 0
    parameters.n_ctx_checkpoints = 0  # they serve the prompt cache alone
    parameters.n_parallel = settings["slots"]
    parameters.n_ctx = settings["context"] * settings["slots"]
    parameters.n_batch = settings["batch"]
    parameters.n_ubatch = settings["ubatch"]
    parameters.swa_full = settings["swa_full"]
    parameters.n_gpu_layers = settings["gpu_layers"]
    parameters.no_op_offload = settings["cpu_only"]
    parameters.cache_type_k = _member(xllamacpp.ggml_type, "GGML_TYPE_", settings["cache_type_k"])
    parameters.cache_type_v = _member(xllamacpp.ggml_type, "GGML_TYPE_", settings["cache_type_v"])
    flash = {"on": "ENABLED", "off": "DISABLED", "auto": "AUTO"}[settings["flash_attention"]]
    parameters.flash_attn_type = _member(xllamacpp.llama_flash_attn_type, "LLAMA_FLASH_ATTN_TYPE_", flash)
    if not settings["mmap"]:
        parameters.load_mode = _member(xllamacpp.llama_load_mode, "LLAMA_LOAD_MODE_", "NONE")
    if settings["split_mode"] is not None:
        mode = _member(xllamacpp.llama_split_mode, "LLAMA_SPLIT_MODE_", settings["split_mode"])
        parameters.split_mode = mode
    if settings["tensor_split"] is not None:
        shares = list(settings["tensor_split"])
        parameters.tensor_split = shares + [0.0] * (len(parameters.tensor_split) - len(shares))
    if settings["threads"] is not None:
        parameters.cpuparams.n_threads = settings["threads"]
        parameters.cpuparams_batch.n_threads = settings["threads"]
    if settings["cpu_moe_layers"]:
        layers = range(settings["cpu_moe_layers"])
        parameters.tensor_buft_overrides = ",".join(_EXPERTS_OF_LAYER.format(layer=layer) for layer in layers)
    if settings["reasoning"] != "auto":
        on = settings["reasoning"] == "on"
        parameters.enable_reasoning = int(on)
        parameters.default_template_kwargs = {"enable_thinking": "true" if on else "false"}
    if settings["reasoning_budget"] is not None:
        parameters.sampling.reasoning_budget_tokens = settings["reasoning_budget"]
    return parameters


def settle_log() -> None:
    """Wait until nothing more is written to the log.

    llama.cpp logs from a thread of its own, which an exit would cut off before it wrote why the load failed.
    """
    deadline = time.monotonic() + _LOG_WAIT_S
    size, since = -1, time.monotonic()
    while time.monotonic() < min(deadline, since + _LOG_QUIET_S):
        now = os.fstat(sys.stderr.fileno()).st_size
        if now != size or now == 0:
            size, since = now, time.monotonic()
        time.sleep(0.02)


def serve(settings: dict[str, Any], status_fd: int) -> None:
    """Load the model, say where it is served, and stay until a signal ends the process."""
    import xllamacpp

    parameters = _parameters(settings)
    try:
        server = xllamacpp.Server(parameters)
    except RuntimeError as error:
        settle_log()
        sys.stderr.write(f"xllamacpp: {error}\n")
        raise SystemExit(LOAD_FAILED) from None
    os.write(status_fd, json.dumps({"url": server.listening_address}).encode() + b"\n")
    while True:
        signal.pause()


def main() -> None:
    """Serve, or list the devices."""
    if sys.argv[1] == "--devices":
        import xllamacpp

        devices = [str(device["name"]) for device in xllamacpp.get_device_info()]
        sys.stdout.write(json.dumps(devices) + "\n")
        return
    serve(json.loads(sys.argv[1]), int(os.environ["QUANTSWEEP_STATUS_FD"]))


if __name__ == "__main__":
    main()
