"""Does the client keep up with the stream: decode rate by our clock against the server's, request by request.

Prints both rates, their ratio and what the client's work costs; client and server within 2% is the aim. The server has
one thread, so that on two cores one is left for its HTTP thread and us. A machine with more to do than cores delays
whatever it likes: look at the load that is printed. Usage:

    python -m tests.bench.bench_client [--requests 10] [--tokens 600] [--threads 1] [--engine embedded] [--model FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from quants.standin import STANDIN_DIR
from runners.chat import ChatRequest, Message, Sampling
from runners.engines import file_engine_kinds, get_engine
from runners.engines.base import EngineUnavailable, Served
from runners.engines.reply import ReplyBuilder
from runners.stream import SseParser
from runners.timing import measure
from tests.runners.models import settings_for
from tests.runners.tiny_gguf import write_tiny_llama

AIM = 0.02
PROMPT = "Write a command line program in Python that keeps a list of things to do in a SQLite database. " * 3


def find_model(named: str | None, folder: Path) -> Path:
    """The named file, else the largest stand-in, else random weights of about its size."""
    if named is not None:
        return Path(named)
    standins = sorted(STANDIN_DIR.glob("standin-*.gguf"), key=lambda path: path.stat().st_size)
    if standins:
        return standins[-1]
    return write_tiny_llama(folder / "random.gguf", layers=4, width=256, heads=8, kv_heads=4)


def request(seed: int, tokens: int) -> ChatRequest:
    sampling = Sampling(temperature=1.0, max_tokens=tokens)
    return ChatRequest(messages=(Message(role="user", content=PROMPT),), sampling=sampling, seed=seed)


def measured(served: Served, seed: int, tokens: int) -> float:
    """One request, one line; the ratio client to server."""
    cpu_s = time.process_time()
    result = served.chat(request(seed, tokens))
    cpu_s = time.process_time() - cpu_s
    timing = measure(result)
    assert timing.decode_tps is not None
    assert timing.decode_tps_client is not None
    assert timing.completion_tokens is not None
    assert timing.ttft_any_s is not None
    assert result.timings is not None
    ratio = timing.decode_tps_client / timing.decode_tps
    before_s = timing.ttft_any_s - (result.timings.prompt_ms or 0.0) / 1000
    print(
        f"  seed {seed:2}: {timing.completion_tokens:5} tokens, client {timing.decode_tps_client:8.1f} tok/s, "
        f"server {timing.decode_tps:8.1f} tok/s, ratio {ratio:.4f}, TTFT {timing.ttft_any_s * 1e3:6.1f} ms "
        f"({before_s * 1e3:+.1f} to prefill), client CPU {cpu_s / timing.completion_tokens * 1e6:.0f} us/token"
    )
    return ratio


def own_work(tokens: int) -> float:
    """Seconds of our CPU for one token of a stream, without sockets: parse it, put the reply together."""
    timings = {
        "cache_n": 0,
        "prompt_n": 269,
        "prompt_ms": 19.6,
        "prompt_per_token_ms": 0.07,
        "prompt_per_second": 1372.5,
        "predicted_ms": 8.7,
        "predicted_per_token_ms": 0.7,
        "predicted_per_second": 2286.3,
    }
    stream = []
    for number in range(1, tokens + 1):
        choice = {"finish_reason": None, "index": 0, "delta": {"content": " word"}}
        chunk = {"choices": [choice], "created": 1795179449, "id": "chatcmpl-N5LXEaojkqOWjVFMa1IKQOatorQtpNDw",
                 "model": "stand-in", "system_fingerprint": "b1-0c1e570", "object": "chat.completion.chunk",
                 "timings": {**timings, "predicted_n": number}}  # fmt: skip
        stream.append(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    parser, reply = SseParser(), ReplyBuilder(started_s=0.0)
    started_s = time.process_time()
    for received in stream:
        for payload in parser.feed(received):
            reply.take(payload, time.monotonic())
    return (time.process_time() - started_s) / tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--engine", choices=file_engine_kinds(), action="append")
    parser.add_argument("--model")
    options = parser.parse_args()
    own_s = own_work(5000)
    print(f"client alone: {own_s * 1e6:.1f} us of CPU a token, {1 / own_s:,.0f} tok/s")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = find_model(options.model, folder)
        for kind in options.engine or file_engine_kinds():
            engine = get_engine(kind)
            there = engine.available()
            if isinstance(there, EngineUnavailable):
                print(f"{kind}: left out, {there.reason}")
                continue
            settings = settings_for(engine, context=2048, threads=options.threads)
            served = engine.load(model, settings, log_path=folder / "server.log")
            try:
                load = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
                print(f"{kind} ({there.build}), {model.name}, {load}")
                ratios = [measured(served, seed, options.tokens) for seed in range(options.requests)]
            finally:
                served.stop()
            within = sum(abs(ratio - 1) <= AIM for ratio in ratios)
            print(
                f"{kind}: median ratio client/server {statistics.median(ratios):.4f}, "
                f"from {min(ratios):.4f} to {max(ratios):.4f}; {within} of {len(ratios)} within {AIM:.0%}"
            )


if __name__ == "__main__":
    main()
