"""A llama-server program with CUDA cards that are not there: those that the stand-in NVML library shows.

What is real is what is real in `llama_server_program`: loading, the protocol, the log. Played are `--list-devices`
(CUDA_VISIBLE_DEVICES counts as it does for CUDA), the log's names of buffers and of the device in use, and what the
library then shows of the card: the memory of this process, and energy that grows. QUANTSWEEP_PLAYED=cpu plays a build
that finds no card when it serves and computes on the CPU; =wrong one that takes the other card.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve()
CONTEXT_BYTES = 460 << 20
"""What the driver takes on a card beside the buffers."""
_BUFFER = re.compile(r"(CPU_Mapped|CPU_REPACK|CPU)( +(?:model|KV|compute|RS) +buffer size *= *)([\d.]+)( MiB)")


def install(folder: Path, mode: str = "") -> Path:
    """An executable `llama-server` in `folder` that runs this module."""
    program = folder / "llama-server"
    set_mode = f"QUANTSWEEP_PLAYED={mode} " if mode else ""
    text = f'#!/bin/sh\nexec env {set_mode}"{sys.executable}" -P "{HERE}" "$@"\n'
    program.write_text(text, encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def _read(config: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in config.read_text().splitlines() if "=" in line)


def _change(config: Path, change: Any) -> None:
    """Writes the file in one step; one program at a time."""
    with config.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        values = _read(config)
        change(values)
        fresh = config.with_suffix(f".{os.getpid()}")
        fresh.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        fresh.replace(config)


def visible(config: Path) -> list[int]:
    """The cards that CUDA would show, in its order."""
    values = _read(config)
    everything = list(range(int(values.get("count", "0"))))
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return everything
    found = []
    for entry in named.split(","):
        meant = [i for i in everything if entry == str(i) or (entry and values.get(f"{i}.uuid", "").startswith(entry))]
        if len(meant) != 1:
            break
        found += meant
    return found


def list_devices(config: Path) -> None:
    values = _read(config)
    print("Available devices:")
    for number, card in enumerate(visible(config)):
        total, used = (int(values.get(f"{card}.{key}", "0")) >> 20 for key in ("total", "used"))
        print(f"  CUDA{number}: {values[f'{card}.name']} ({total} MiB, {total - used} MiB free)")
    if not visible(config):
        print("  (none)")


class _Card:
    """What the library shows of a card that this process serves on."""

    def __init__(self, config: Path, index: int) -> None:
        self.config, self.index = config, index
        self.held = 0

    def hold(self, size: int) -> None:
        def change(values: dict[str, str]) -> None:
            values[f"{self.index}.used"] = str(int(values[f"{self.index}.used"]) + size)
            self.held += size
            values[f"{self.index}.compute.0"] = f"{os.getpid()} {self.held}"

        _change(self.config, change)

    def leave(self) -> None:
        def change(values: dict[str, str]) -> None:
            values[f"{self.index}.used"] = str(int(values[f"{self.index}.used"]) - self.held)
            values.pop(f"{self.index}.compute.0", None)

        _change(self.config, change)

    def draw(self) -> NoReturn:
        """Takes 150 W for as long as the process lives."""
        while True:
            time.sleep(0.05)

            def change(values: dict[str, str]) -> None:
                key = f"{self.index}.energy_mj"
                values[key] = str(int(values.get(key, "0")) + 7500)
                values[f"{self.index}.power_mw"] = "150000"

            _change(self.config, change)


def _played_log(source: int, target: int, cards: list[_Card], shares: list[float]) -> None:
    with os.fdopen(source, "rb", buffering=0) as lines, os.fdopen(target, "wb", buffering=0) as log:
        rest = b""
        while chunk := lines.read(65536):
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                log.write(_lines(line.decode(errors="replace"), cards, shares).encode() + b"\n")


def _lines(line: str, cards: list[_Card], shares: list[float]) -> str:
    """The line, or one for each card with its share of the buffer."""
    found = _BUFFER.search(line)
    if not cards or found is None:
        return line
    said = []
    for number, (card, share) in enumerate(zip(cards, shares, strict=True)):
        mebibytes = float(found[3]) * share / sum(shares)
        card.hold(round(mebibytes * (1 << 20)))
        said.append(f"{line[: found.start(1)]}CUDA{number}{found[2]}{mebibytes:.2f}{found[4]}")
    return "\n".join(said)


def main() -> None:
    config = Path(os.environ["QUANTSWEEP_FAKE_NVML"])
    arguments = sys.argv[1:]
    if arguments == ["--list-devices"]:
        list_devices(config)
        return
    sys.path.insert(0, str(HERE.parents[2]))
    from tests.runners import llama_server_program

    if "--model" not in arguments:
        llama_server_program.main()
        return
    given = dict(itertools.pairwise(arguments))
    names = [name for name in given.get("--device", "none").split(",") if name != "none"]
    shares = [float(share) for share in given.get("--tensor-split", ",".join("1" for _ in names)).split(",") if share]
    mode = os.environ.get("QUANTSWEEP_PLAYED", "")
    seen = visible(config)
    for name in names:
        if int(name.removeprefix("CUDA")) >= len(seen):
            sys.stderr.write(f'error while handling argument "--device": invalid device: {name}\n')
            raise SystemExit(1)
    cards = []
    for place, device in enumerate(names if mode != "cpu" else []):
        index = seen[int(device.removeprefix("CUDA"))]
        index = 1 - index if mode == "wrong" else index
        values = _read(config)
        card = _Card(config, index)
        card.hold(CONTEXT_BYTES)
        pci = values[f"{index}.pci"][4:].lower()
        name, free = values[f"{index}.name"], int(values[f"{index}.total"]) - int(values[f"{index}.used"])
        sys.stderr.write(f"load: using device CUDA{place} ({name}) ({pci}) - {free >> 20} MiB free\n")
        sys.stderr.flush()
        threading.Thread(target=card.draw, daemon=True).start()
        cards.append(card)
    inside, outside = os.pipe()
    target = os.dup(2)
    os.dup2(outside, 2)
    threading.Thread(target=_played_log, args=(inside, target, cards, shares), daemon=True).start()

    def end(*_: object) -> None:
        for card in cards:
            card.leave()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    llama_server_program.main()


if __name__ == "__main__":
    main()
