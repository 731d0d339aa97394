"""The gateway: what HTTP adds to the first token, and costs of the tokens a second of many streams, beside gRPC.

``python -m tests.benchmarks.gateway`` takes minutes. One stack with the sample model serves both ways, in turn.
The HTTP side is read from plain sockets, so that no client library is measured.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from palimpsest import AsyncClient, Client
from palimpsest.embedded.stack import Stack
from palimpsest.settings import Settings
from tests.benchmarks.figures import Figures

MODEL = "smollm2"
STREAMS, TOKENS = 16, 96
FIRST_ROUNDS, STREAM_ROUNDS = 60, 7
PROMPT = "A palimpsest is a page that was written on, scraped clean and written on again. It is"
Way = Callable[[int, int], Awaitable[tuple[float, int]]]
"""Seconds until the first text, and text events, of one stream: its number, and how many tokens it has."""


def bare(client: AsyncClient) -> Way:
    """Streams over gRPC."""

    async def run(number: int, tokens: int) -> tuple[float, int]:
        began, first, events = time.perf_counter(), 0.0, 0
        async with client.decoding.generate(
            model=MODEL, prompt=f"{PROMPT} {number}", max_tokens=tokens, ignore_eos=True
        ) as stream:
            async for event in stream:
                if event.HasField("delta"):
                    first = first or time.perf_counter() - began
                    events += 1
        return first, events

    return run


def over_http(url: str) -> Way:
    """Streams over HTTP."""
    host, _, port = url.removeprefix("http://").rpartition(":")

    async def run(number: int, tokens: int) -> tuple[float, int]:
        fields = {"model": MODEL, "prompt": f"{PROMPT} {number}", "max_tokens": tokens, "temperature": 0}
        body = json.dumps({**fields, "ignore_eos": True, "stream": True}).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began, first, events = time.perf_counter(), 0.0, 0
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        while data := await reader.read(1 << 16):
            if found := data.count(b'"finish_reason":null'):
                first = first or time.perf_counter() - began
                events += found
        writer.close()
        return first, events

    return run


async def measure(client: AsyncClient, url: str, figures: Figures) -> None:
    """Let the ways take turns."""
    ways = {"gRPC": bare(client), "HTTP": over_http(url)}
    firsts: dict[str, list[float]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for n in range(FIRST_ROUNDS + 1):
        for name, way in ways.items():
            first, _ = await way(0, 2)
            if n:
                firsts[name].append(first)
    for n in range(STREAM_ROUNDS + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            await asyncio.gather(*(way(number, TOKENS) for number in range(STREAMS)))
            if n:
                rates[name].append(STREAMS * TOKENS / (time.perf_counter() - began))
    added = statistics.median(http - grpc for http, grpc in zip(firsts["HTTP"], firsts["gRPC"], strict=True))
    lost = 1 - statistics.median(http / grpc for http, grpc in zip(rates["HTTP"], rates["gRPC"], strict=True))
    figures.gate("ms that HTTP adds to the first token, median", "<= 5", 1000 * added)
    figures.gate(f"share of the tokens a second of {STREAMS} streams that HTTP costs", "<= 0.05", lost)
    for name in ways:
        figures.figure(f"{name}: first token, ms", 1000 * statistics.median(firsts[name]))
        figures.figure(f"{name}: tokens a second of {STREAMS} streams", statistics.median(rates[name]))


def main() -> None:
    """Measure and write."""
    figures = Figures("gateway")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            state_dir=Path(folder), redis_url="", listen="127.0.0.1:0", threads=1, log_level="WARNING"
        )
        with Stack(settings) as stack:
            with Client(stack.target) as client:
                client.models.register_model(model_id=MODEL, source="sample").result(timeout=300)

            async def run() -> None:
                async with AsyncClient(stack.target) as client:
                    await measure(client, stack.gateway, figures)

            asyncio.run(run())
    figures.write()


if __name__ == "__main__":
    main()
