"""What an engine and its driver take besides the buffers that ggml accounts for.

No formula gives these: they depend on the GPU, the driver and the build. The constants are upper ends, so that a
verdict errs towards "does not fit"; a node that has measured its own (the driver's figure less the engine's buffers)
should use that instead.

- CUDA: the primary context takes 120 to 550 MB depending on the GPU (llama.cpp pull request 20595, measured there up to
  Blackwell); cuBLAS adds its workspace, up to 32 MiB on Hopper and 4 MiB before (cuBLAS documentation,
  cublasSetWorkspace), and ggml's pool keeps the scratch of the largest multiplication.
- ROCm is taken to be of the same order; the figures for Vulkan and Metal are guesses on the high side, not measured.
- The program: llama-server 0c1e570 (CPU build) held about 30 MiB beyond its buffers after loading models without a
  vocabulary; a vocabulary of 250,000 tokens, HTTP threads and a request's own buffers come on top.
"""

from __future__ import annotations

from typing import Final

from quants.footprint.types import Backend

MIB: Final = 1024 * 1024

GPU_CONTEXT_BYTES: Final[dict[Backend, int]] = {
    Backend.CUDA: 600 * MIB,
    Backend.ROCM: 600 * MIB,
    Backend.VULKAN: 350 * MIB,
    Backend.METAL: 250 * MIB,
    Backend.CPU: 0,
}
# The program: code, tensor records, threads' stacks; and its vocabulary, which it keeps as strings in tables. Measured
# with CPU builds of llama.cpp: 14 to 23 MiB beyond the buffers with 768 tokens, up to 180 MiB with 250,000.
HOST_PROGRAM_BYTES: Final = 48 * MIB
HOST_TOKEN_BYTES: Final = 608
LARGE_VOCABULARY: Final = 262_144
# With CUDA the driver's host side and the mapped libraries come on top.
HOST_DRIVER_BYTES: Final[dict[Backend, int]] = {
    Backend.CUDA: 400 * MIB,
    Backend.ROCM: 400 * MIB,
    Backend.VULKAN: 150 * MIB,
    Backend.METAL: 100 * MIB,
    Backend.CPU: 0,
}


def engine_overhead(backend: Backend, device: str, *, vocabulary: int = LARGE_VOCABULARY) -> int:
    """The bytes to set aside on a device ("host" or a GPU) besides ggml's buffers; `vocabulary` counts tokens."""
    if device == "host":
        return HOST_PROGRAM_BYTES + vocabulary * HOST_TOKEN_BYTES + HOST_DRIVER_BYTES[backend]
    return GPU_CONTEXT_BYTES[backend]
