"""A disk that somebody else fills while a program runs is the machine's failure; one that the program fills is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A disk of its own: a tmpfs in a mount namespace, which an ordinary user may make. What the grader raises is printed.
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from runners.sandbox import Completed, Limits
from runners.witness import Witness

disk, box = Path(sys.argv[1]), Path(sys.argv[1]) / "box"
box.mkdir()
limits = Limits(file_bytes=8 << 20, files=200)

def fill(path, size):
    with path.open("wb") as file:
        try:
            for _ in range(size >> 16):
                file.write(bytes(1 << 16))
        except OSError:
            pass

class Box:
    isolation = "box"
    def run(self, argv, **_):
        {step}
        return Completed.of(b"", b"", exit_code=1, signal=None, limit=None, wall_s=0.1)

{before}
try:
    witness = Witness(Box())
    for _ in range(2):
        witness.run(["x"], workdir=box, limits=limits)
    print("scored")
except OSError as error:
    print("machine:", error.strerror)
"""


@pytest.mark.parametrize(
    ("size", "before", "step", "said"),
    [
        ("64m", "pass", "pass", "scored"),
        ("4m", "pass", "pass", "machine: No space left on device: programs need 10 MiB and 328 files free there"),
        ("64m", "pass", "fill(disk / 'other', 70 << 20)", "machine: No space left on device: programs need 1 MiB"),
        ("64m", "pass", "fill(box / 'own', 70 << 20)", "scored"),
        ("64m", "fill(disk / 'other', 70 << 20)", "pass", "machine: No space left on device"),
    ],
    ids=["room", "a small disk", "filled by somebody", "filled by the program", "full before"],
)
def test_who_filled_the_disk(tmp_path: Path, size: str, before: str, step: str, said: str) -> None:
    program = SCRIPT.replace("{step}", step).replace("{before}", before)
    mount = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(tmp_path), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(said)
