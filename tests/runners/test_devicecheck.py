"""A loaded server's own log against the device that it was sent to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from profiles.samples import Samples
from profiles.types import Device
from runners.devicecheck import UsedDevice, gpu_buffer_bytes, misplaced, used_devices
from runners.engines.base import BufferSizes
from runners.row import sample_columns

CARD = Device("nvidia-0", "nvidia", "NVIDIA GeForce RTX 5060 Ti", "discrete", pci_id="0000:01:00.0")
USING = (
    "0.00.812.345 I llama_model_load_from_file_impl: using device CUDA0 (NVIDIA GeForce RTX 5060 Ti) ({}) "
    "- 15055 MiB free\n"
)
ON_CARD = BufferSizes(model_bytes={"CUDA0": 10, "CPU_Mapped": 3}, compute_bytes={"CUDA0": 5, "CUDA_Host": 2})
ON_HOST = BufferSizes(model_bytes={"CPU_Mapped": 13}, compute_bytes={"CPU": 5, "CUDA_Host": 2})


def test_the_devices_of_a_log() -> None:
    older = "llama_load_model_from_file: using device CUDA1 (NVIDIA GeForce RTX 3090) - 23306 MiB free\n"
    log = USING.format("0000:01:00.0") + older + USING.format("0000:01:00.0").replace("CUDA0", "MTL0") + "noise\n"
    assert used_devices(log)[:2] == (
        UsedDevice("CUDA0", "NVIDIA GeForce RTX 5060 Ti", "0000:01:00.0"),
        UsedDevice("CUDA1", "NVIDIA GeForce RTX 3090", None),
    )
    assert used_devices(USING.format("unknown id"))[0].pci_id is None


def test_what_lies_on_gpus() -> None:
    assert gpu_buffer_bytes(ON_CARD) == 15
    assert gpu_buffer_bytes(ON_HOST) == 0
    assert gpu_buffer_bytes(None) is None


def test_a_peak_below_what_was_allocated_is_no_measurement() -> None:
    """With the wrong card sampled it was 0 bytes, "device minus baseline"."""
    window = Samples(1.0, 9, peak_vram_bytes=8, sources={"peak_vram_bytes": "nvml"})
    reasons: dict[str, str] = {}
    columns = sample_columns(None, window, reasons, on_gpu_bytes=gpu_buffer_bytes(ON_CARD))
    assert (columns["peak_vram_bytes"], columns["peak_vram_source"]) == (None, None)
    assert reasons["peak_vram_bytes"] == "8 bytes by nvml, less than the 15 in the engine's log"
    enough = sample_columns(None, replace(window, peak_vram_bytes=15), {}, on_gpu_bytes=15)
    assert enough["peak_vram_bytes"] == 15
    mapped = sample_columns(None, replace(window, peak_gtt_bytes=7), {}, on_gpu_bytes=15)
    assert (mapped["peak_vram_bytes"], mapped["peak_gtt_bytes"]) == (8, 7)


@pytest.mark.parametrize(
    ("engine_device", "address", "buffers", "why"),
    [
        ("CUDA0", "0000:01:00.0", ON_CARD, None),
        ("CUDA0", "0000:05:00.0", ON_CARD, "computes on CUDA0 at PCI 0000:05:00.0"),
        ("CUDA0", "unknown id", ON_HOST, "computes on the CPU"),
        ("CUDA0", "unknown id", None, None),
        ("CPU", "unknown id", ON_HOST, None),
    ],
)
def test_a_server_that_computes_elsewhere_is_found_out(
    engine_device: str, address: str, buffers: BufferSizes | None, why: str | None
) -> None:
    said = misplaced([CARD], engine_device, log=USING.format(address), buffers=buffers)
    assert said is None if why is None else why in (said or "")


def test_a_model_over_two_cards_may_use_both_and_no_third() -> None:
    other = replace(CARD, id="nvidia-1", pci_id="0000:05:00.0")
    log = USING.format("0000:01:00.0") + USING.format("0000:05:00.0").replace("CUDA0", "CUDA1")
    assert misplaced([CARD, other], "CUDA0,CUDA1", log=log, buffers=ON_CARD) is None
    log += USING.format("0000:09:00.0").replace("CUDA0", "CUDA2")
    said = misplaced([CARD, other], "CUDA0,CUDA1", log=log, buffers=ON_CARD) or ""
    assert "0000:09:00.0" in said
    assert "is at 0000:01:00.0 and 0000:05:00.0" in said
