"""Makes the table of truths: what the real llama.cpp would allocate for every shape and setting.

    python -m tools.fit_truth.make_truth LLAMA_SOURCE LLAMA_BUILD

LLAMA_SOURCE is a llama.cpp source tree, LLAMA_BUILD the build folder made from it (its shared libraries are used). A
C++ compiler is needed here and nowhere else: the tests read the table.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.fit_truth.held_out import HELD_OUT
from tools.fit_truth.shapes import SHAPES
from tools.fit_truth.write import Tensor, metadata, tensors, unnumbered, write

if TYPE_CHECKING:
    from tools.fit_truth.shape import Shape

TRUTH: Final = Path(__file__).parents[2] / "tests" / "quants" / "truth"
F16, Q8_0, Q4_0 = 1, 8, 2
_MISSING: Final = re.compile(r"tensor '([^']+)' not found|missing tensor '([^']+)'")
_LINE: Final = re.compile(r"(\S+) (KV|RS) buffer size = +([\d.]+) MiB|size = +([\d.]+) MiB \(.*K \((\w+)\)")
_OUTPUT: Final = re.compile(r"output buffer size = +([\d.]+) MiB")

Settings = dict[str, int]


def settings_for(shape: Shape) -> list[Settings]:
    """The whole grid of the issue on the CPU and on one GPU, and a spread of everything else."""
    grid: list[Settings] = []
    for gpus in (0, 1):
        for ctx, kind, slots in itertools.product((4096, 32768, 131072), (F16, Q8_0, Q4_0), (1, 4)):
            grid.append({"gpus": gpus, "ctx": ctx * slots, "k": kind, "v": kind, "slots": slots})
    grid += [
        {"gpus": 0, "ctx": 32768, "repack": 0},
        {"gpus": 0, "ctx": 131072, "slots": 4, "unified": 1},
        {"gpus": 1, "ctx": 131072, "slots": 4, "unified": 1},
        {"gpus": 1, "ctx": 32768, "ubatch": 1024},
        {"gpus": 0, "ctx": 8192, "ubatch": 128},
        {"gpus": 1, "ctx": 8192, "fa": 0},
        {"gpus": 1, "ctx": 32768, "fa": 0},
        {"gpus": 1, "ctx": 32768, "swa_full": 1},
        {"gpus": 1, "ctx": 32768, "k": Q8_0, "v": F16},
        {"gpus": 1, "ctx": 16384, "ngl": 10},
        {"gpus": 1, "ctx": 16384, "ngl": 1},
        {"gpus": 1, "ctx": 16384, "ngl": 0},
        {"gpus": 1, "ctx": 16384, "kv_gpu": 0},
        {"gpus": 2, "ctx": 32768},
        {"gpus": 2, "ctx": 32768, "ngl": 12},
        {"gpus": 1, "ctx": 5000, "slots": 3},
    ]
    if shape.keys.get("expert_count"):
        grid += [{"gpus": 1, "ctx": 32768, "cpu_moe": 999}, {"gpus": 1, "ctx": 32768, "cpu_moe": 5}]
    return grid


def build_planner(source: Path, build: Path, folder: Path) -> Path:
    """Compile planner.cpp against that llama.cpp."""
    planner = folder / "planner"
    includes = [f"-I{source / each}" for each in ("include", "src", "ggml/include", "ggml/src")]
    libraries = [f"-L{build / 'bin'}", f"-Wl,-rpath,{build / 'bin'}", "-lllama", "-lggml", "-lggml-base", "-lggml-cpu"]
    code = str(Path(__file__).with_name("planner.cpp"))
    subprocess.run(["c++", "-std=c++17", "-O1", *includes, code, "-o", str(planner), *libraries], check=True)
    return planner


def ask(planner: Path, command: str, path: Path, lines: str = "") -> subprocess.CompletedProcess[str]:
    """Run the planner on a file."""
    argv = [str(planner), command, str(path)]
    # A crash of the engine is an answer too; its backtrace takes seconds.
    environment = os.environ | {"GGML_NO_BACKTRACE": "1"}
    return subprocess.run(argv, input=lines, capture_output=True, text=True, timeout=300, check=False, env=environment)


def plan(planner: Path, path: Path, grid: list[Settings]) -> list[dict[str, Any]]:
    """What the engine says to each settings; it is started again after those that it does not survive twice."""
    replies: list[dict[str, Any]] = []
    tried_again = -1
    while len(replies) < len(grid):
        left = grid[len(replies) :]
        lines = "".join(" ".join(f"{key}={value}" for key, value in each.items()) + "\n" for each in left)
        answer = ask(planner, "plan", path, lines)
        replies += [json.loads(line) for line in answer.stdout.splitlines() if line.endswith("}")]
        if answer.returncode and tried_again != len(replies):
            tried_again = len(replies)  # a busy machine may have killed it
        elif answer.returncode:
            replies.append({"error": f"crashed: {(answer.stderr.strip().splitlines() or ['?'])[-1].split('/')[-1]}"})
    return replies


def table_of(planner: Path, shape: Shape, path: Path) -> list[Tensor]:
    """The tensor table of a shape: as the engine lists it, with what it will not do without."""
    write(path, metadata(shape))
    answer = ask(planner, "tensors", path)
    if answer.returncode:
        raise RuntimeError(f"{shape.name}: {answer.stderr[-500:] or answer.returncode}")
    rows = [line.split() for line in answer.stdout.splitlines()]
    listed = [(row[0], tuple(map(int, row[1:]))) for row in rows]
    required: set[str] = set()
    while True:
        table = tensors(shape, listed, required)
        write(path, metadata(shape), table)
        reply = plan(planner, path, [{"gpus": 0, "ctx": 4096}])[0]
        missing = _MISSING.search(reply.get("error", ""))
        if missing is None:
            return table
        name = unnumbered(missing[1] or missing[2])
        if name in required:
            raise RuntimeError(f"{shape.name}: the engine still misses {name}")
        required.add(name)


def row_of(settings: Settings, reply: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """One row of the table: buffers in bytes per type, caches and state as the log prints them (MiB)."""
    if "error" in reply:
        return {"settings": settings, "error": reply["error"].strip().splitlines()[-1] if reply["error"] else "?"}
    state: dict[str, float] = {}
    caches = 0.0
    for found in _LINE.finditer(reply["log"]):
        if found[2] == "RS":
            state[found[1]] = float(found[3])
        elif found[4] is not None:
            caches += float(found[4])
    output = _OUTPUT.search(reply["log"])
    if output is None:
        raise RuntimeError(f"{shape.name}: no output buffer in the log")
    return {
        "settings": settings,
        "buffers": reply["buffers"],
        "kv_mib": round(caches, 2),
        "state_mib": state,
        "output_mib": float(output[1]),
    }


def dump(name: str, content: Any) -> None:
    """Write compact JSON, compressed reproducibly (no time stamp)."""
    data = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
    (TRUTH / name).write_bytes(gzip.compress(data, 9, mtime=0))


def main() -> int:
    """Make shapes.json.gz and engine.json.gz anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("build", type=Path)
    parser.add_argument("--only", help="shapes whose name contains this, printed instead of written")
    options = parser.parse_args()
    version = subprocess.run(
        [options.build / "bin" / "llama-fit-params", "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"version: (.*)", version.stdout + version.stderr)
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="ascii"), re.MULTILINE)
    shapes: dict[str, Any] = {}
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        planner = build_planner(options.source, options.build, Path(folder))
        for shape in (*SHAPES, *HELD_OUT):
            if options.only and options.only not in shape.name:
                continue
            path = Path(folder) / f"{shape.name}.gguf"
            table = table_of(planner, shape, path)
            grid = settings_for(shape)
            replies = plan(planner, path, grid)
            rows[shape.name] = [row_of(each, reply, shape) for each, reply in zip(grid, replies, strict=True)]
            shapes[shape.name] = {"metadata": metadata(shape), "tensors": table}
            errors = [row["error"] for row in rows[shape.name] if "error" in row]
            print(f"{shape.name}: {len(table)} tensors, {len(replies)} settings, {len(errors)} refused {set(errors)}")
            path.unlink()
    if not options.only:
        cpu = sorted(set((flags[1] if flags else "").split()) & {"avx2", "avx512f"})
        dump("shapes.json.gz", shapes)
        dump("engine.json.gz", {"engine": found[1] if found else "", "cpu": cpu, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
