"""What an engine and its driver take besides the buffers that ggml accounts for.

No formula gives these: they depend on the GPU, the driver and the build. The constants are upper ends of what is
reported, so that a verdict errs towards "does not fit"; a node that has measured its own should pass that instead.

Sources: NVIDIA's CUDA context with llama.cpp's kernels takes about 300 to 550 MiB on cards from Pascal to Blackwell
("unaccounted" in llama.cpp's own memory breakdown, `common_memory_breakdown_print`); cuBLAS takes a workspace of up to
32 MiB on Hopper, 4 MiB before (cuBLAS documentation, cublasSetWorkspace), and ggml's CUDA pool keeps the scratch of the
largest multiplication. ROCm contexts are of the same order. Vulkan and Metal map what they need; their drivers keep
command buffers and shaders.
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
# The program itself: llama-server's code, the vocabulary, tensor records, threads' stacks. Measured with the CPU build
# of llama.cpp 0c1e570 and models of up to 250,000 tokens: 60 to 180 MiB beyond its buffers.
HOST_PROGRAM_BYTES: Final = 200 * MIB
# With CUDA the driver's host side and the mapped libraries come on top.
HOST_DRIVER_BYTES: Final[dict[Backend, int]] = {
    Backend.CUDA: 400 * MIB,
    Backend.ROCM: 400 * MIB,
    Backend.VULKAN: 150 * MIB,
    Backend.METAL: 100 * MIB,
    Backend.CPU: 0,
}


def engine_overhead(backend: Backend, device: str) -> int:
    """The bytes to set aside on a device ("host" or a GPU) besides ggml's buffers."""
    if device == "host":
        return HOST_PROGRAM_BYTES + HOST_DRIVER_BYTES[backend]
    return GPU_CONTEXT_BYTES[backend]
