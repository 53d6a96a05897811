"""How good each quant is: asks every file the todo prompt with many seeds, grades the replies, prints a table.

    python tools/standin/evaluate.py --dir quants/standin --seeds 20 --temperature 0.8

Runs in quantsweep's own environment: llama.cpp from `xllamacpp`, the todo exam and sandbox from `runners`. No torch.
"""

import argparse
import json
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from runners.exams import base, todo
from runners.exams.box import Box
from runners.sandbox import open_sandbox


@dataclass(frozen=True)
class Answer:
    """One answer: its text, why it ended, its length in tokens and the engine's decode rate in tokens per second."""

    text: str
    finish: str
    tokens: int
    rate: float


def ask(address: str, messages: list[dict[str, str]], seed: int, temperature: float) -> Answer:
    """One chat completion."""
    body = {
        "messages": messages,
        "seed": seed,
        "temperature": temperature,
        "max_tokens": 1024,
        "cache_prompt": False,
    }
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)
    choice = answer["choices"][0]
    return Answer(
        choice["message"]["content"],
        choice["finish_reason"],
        answer["usage"]["completion_tokens"],
        answer["timings"]["predicted_per_second"],
    )


def serve(path: Path, threads: int) -> tuple[object, str]:
    """Start llama.cpp in this process on a free port; the server ends when the first value is dropped."""
    import xllamacpp  # only here: the table of what can be asked is read without it

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 2048
    params.n_parallel = 1
    params.port = 0
    params.cpuparams.n_threads = threads
    server = xllamacpp.Server(params)
    return server, server.listening_address


def grade(replies: list[Answer]) -> list[float]:
    """Points of 100, by the todo exam's strict scoring, in the sandbox."""
    exam, sandbox = todo.load(), open_sandbox()
    points: list[float] = []
    for answer in replies:
        with tempfile.TemporaryDirectory(prefix="standin-") as folder:
            reply = base.Reply(answer.text, finish_reason=answer.finish)
            task = exam.tasks()[0]
            transcript = base.Transcript.of(task, reply)
            points.append(exam.grade(task, transcript, Box(sandbox, Path(folder))).scores["strict"])
    return points


def main() -> None:
    """Print one line per quant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, required=True, help="folder with standin-<QUANT>.gguf")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    messages = [{"role": each.role, "content": each.content} for each in todo.load().tasks()[0].messages]
    print(f"| quant | bytes | full marks of {args.seeds} | mean | each | ended | different | tokens | tokens/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in sorted(args.dir.glob("*.gguf"), key=lambda path: -path.stat().st_size):
        server, address = serve(path, args.threads)
        replies = [ask(address, messages, seed, args.temperature) for seed in range(1, args.seeds + 1)]
        del server
        points = grade(replies)
        tokens = sum(reply.tokens for reply in replies) / len(replies)
        cells = [
            path.stem.removeprefix("standin-"),
            path.stat().st_size,
            points.count(100.0),
            f"{sum(points) / len(points):.1f}",
            " ".join(f"{value:.0f}" for value in points),
            sum(reply.finish == "stop" for reply in replies),
            len({reply.text for reply in replies}),
            f"{tokens:.0f}",
            f"{sorted(reply.rate for reply in replies)[len(replies) // 2]:.0f}",
        ]
        print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
