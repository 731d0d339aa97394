"""Rates and times as people write them, and a context as a row of cells."""

import io

import numpy as np
import pytest
import typer
from rich.console import Console

from palimpsest.api.codec.v1 import codec_pb2
from palimpsest.cli.kv import bench
from palimpsest.cli.kv.options import load_settings
from palimpsest.cli.names import context_name
from palimpsest.cli.output import load_view as cells
from palimpsest.cli.output.quantities import rate, seconds, show_rate, show_seconds
from palimpsest.client.loading import Abandoned, ChunkLoaded, Decision, Opened, RecomputeChunk


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [
        ("20Mbps", 2.5e6),
        ("20 Mbit/s", 2.5e6),
        ("20mbps", 2.5e6),
        ("2MB/s", 2e6),
        ("2MBps", 2e6),
        ("1.5 MiB/s", 1.5 * 2**20),
        ("1Gbps", 125e6),
        ("300kbit/s", 37_500),
        ("800bps", 100),
        ("1e3 kB/s", 1e6),
        ("", 0),
    ],
)
def test_rates(text, bytes_per_second):
    assert rate(text) == bytes_per_second


@pytest.mark.parametrize("text", ["20", "20M", "20MB", "fast", "-1Mbps", "0Mbps", "20Mbps/s", "1 TB/s"])
def test_what_is_no_rate(text):
    with pytest.raises(typer.BadParameter):
        rate(text)


def test_times():
    assert [seconds(text) for text in ("500ms", "2s", "1.5", "2 min", "")] == [0.5, 2, 1.5, 120, 0]
    with pytest.raises(typer.BadParameter):
        seconds("soon")
    assert [show_seconds(value) for value in (0.34, 2.1, 150)] == ["340 ms", "2.10 s", "150 s"]
    assert [show_rate(value) for value in (100, 2.5e6, 1.25e9)] == ["800 bit/s", "20 Mbit/s", "10 Gbit/s"]


def test_settings_from_options():
    settings = load_settings(deadline="2s", mode="quality", level=["high"], bandwidth="8Mbps", recompute=500)
    assert settings.mode == codec_pb2.LoadSettings.MODE_QUALITY
    assert (settings.deadline_seconds, settings.bandwidth, list(settings.levels)) == (2.0, 1e6, ["high"])
    assert settings.recompute[0].tokens / settings.recompute[0].seconds == 500
    with pytest.raises(typer.BadParameter):
        load_settings(mode="best")
    assert context_name("x") == context_name("contexts/x") == "contexts/x"


def test_levels_have_letters_of_their_own():
    levels = ["lossless", "near-lossless", "high", "balanced", "compact", "smallest", "recompute", "held"]
    assert len({cells.letter(level) for level in levels}) == len(levels)
    assert cells.row(["high", "", "recompute"]).plain == "h·r"
    assert cells.legend(["high", "", "recompute", "high", "novel"]).plain.split() == (
        ["h", "high", "x", "2", "r", "recompute", "x", "1", "n", "novel", "x", "1"]
    )


def test_a_watch_follows_a_load():
    context = codec_pb2.Context(name="contexts/x")
    for at in range(3):
        context.chunks.add(start=10 * at, tokens=10)
    decision = Decision(finish_seconds=2.0, bandwidth=1e6, loss=0.01)
    watch = cells.Watch()
    watch(Opened(context, np.arange(20, dtype="<u4")))
    assert watch.levels == ["", ""]  # the third was not asked for
    watch(Abandoned(1, "late"))
    watch(ChunkLoaded(1, "high", 2048, None, decision))  # type: ignore[arg-type]
    watch(RecomputeChunk(0, np.arange(10), decision))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(watch)
    shown = console.export_text()
    assert "contexts/x  20 tokens, 2 chunks" in shown
    assert "rh" in shown
    assert "2.0 KiB in" in shown
    assert "8 Mbit/s" in shown
    assert "(late)" in shown
    assert watch.abandoned == 1


def test_the_time_of_a_load_is_the_links_and_not_that_of_imports_before(monkeypatch):
    clock = iter([100.0, 100.5, 101.0])
    monkeypatch.setattr(cells.time, "monotonic", lambda: next(clock))
    watch = cells.Watch()
    assert watch.rate == 0
    context = codec_pb2.Context(name="contexts/x")
    for at in range(2):
        context.chunks.add(start=10 * at, tokens=10)
    decision = Decision(finish_seconds=2.0, bandwidth=1e6, loss=0.01)
    watch(Opened(context, np.arange(20, dtype="<u4")))
    watch(ChunkLoaded(0, "high", 3000, None, decision))  # type: ignore[arg-type]
    watch(ChunkLoaded(1, "high", 1000, None, decision))  # type: ignore[arg-type]
    assert watch.rate == 4000.0


@pytest.mark.parametrize("over", [False, True])
def test_ways_beyond_the_loss_budget_are_marked(over: bool):
    way = codec_pb2.EstimateResponse.Way(name="smallest", finish_seconds=0.25, over_budget=over)
    assert bench._cell(way) == ("250 ms*" if over else "250 ms")
