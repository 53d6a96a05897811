"""What a chunk of a stream costs the client: our own reader of a server on this node against httpx, which reads all
others. Prints CPU for each chunk, and by how much the clock reading of a chunk lags behind its sending.

Usage: python -m tests.bench.bench_endpoint_client [--chunks 3000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quants.models import EndpointModel
from runners.chat import ChatRequest, ChatResult, Message, Sampling
from runners.engines import get_endpoint_engine
from runners.engines.endpoint_settings import OpenAISettings
from runners.engines.wire import stream_chat
from tests.runners.endpoint_servers import EndpointServer, Played, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASK = ChatRequest(messages=(Message(role="user", content="x"),), sampling=Sampling(max_tokens=9), seed=1)
PAUSE_S = 0.002


def stream(chunks: int, sent: list[float]) -> Iterator[bytes | float]:
    """Chunks that come one by one; `sent` gets the time of each."""
    for _ in range(chunks):
        choice: dict[str, Any] = {"delta": {"content": " word"}, "finish_reason": None}
        content = b"data: " + json.dumps({"model": "m", "choices": [choice]}).encode() + b"\n\n"
        sent.append(time.monotonic())
        yield content
        yield PAUSE_S
    yield sse({"choices": [{"delta": {}, "finish_reason": "stop"}]})


def measured(name: str, chunks: int, ask: Callable[[EndpointServer], ChatResult]) -> float:
    """One stream by one client; the CPU for each chunk in microseconds."""
    sent: list[float] = []
    with EndpointServer(Played(pieces=stream(chunks, sent))) as server:
        ask(server)  # imports, and whatever is made once
        server.answers = [Played(pieces=stream(chunks, sent))]
        sent.clear()
        cpu_s = time.thread_time()
        result = ask(server)
        cpu_s = time.thread_time() - cpu_s
    arrived = [event.at_s for event in result.events if event.kind == "text"]
    lags = sorted((at - begun) * 1e6 for at, begun in zip(arrived, sent, strict=True))
    print(
        f"{name:28} {cpu_s / chunks * 1e6:6.0f} us of CPU a chunk; a chunk is seen {statistics.median(lags):5.0f} us "
        f"after it was sent (95%: {lags[int(len(lags) * 0.95)]:.0f} us)"
    )
    return cpu_s / chunks * 1e6


def by_wire(server: EndpointServer) -> ChatResult:
    return stream_chat(server.origin, {}, timeout_s=60.0)


def by_httpx(server: EndpointServer) -> ChatResult:
    own = OpenAISettings(base_url=server.url)
    model = EndpointModel("m", own.provider, "m")
    return get_endpoint_engine("openai").connect(model, own, log_path=Path("unused")).chat(ASK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=3000)
    chunks = parser.parse_args().chunks
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; a chunk every {PAUSE_S * 1e3:g} ms")
    ours = measured("a server of ours (wire)", chunks, by_wire)
    theirs = measured("any other (http over httpx)", chunks, by_httpx)
    print(f"httpx costs {theirs / ours:.1f} times as much for each chunk")


if __name__ == "__main__":
    main()
