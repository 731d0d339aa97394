"""Metrics of the engines, read whenever Prometheus asks."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from palimpsest.engine import EngineHost


class EngineCollector(Collector):
    """Streams, cache memory and tokens of each model in memory."""

    def __init__(self, host: EngineHost) -> None:
        self._host = host

    def describe(self) -> list[Metric]:
        """Nothing: registering must not load a model."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the models now in memory."""
        streams = GaugeMetricFamily(
            "palimpsest_engine_streams",
            "Sequences in the batch and requests waiting; those of the background apart, with how many are paused.",
            labels=["model", "state"],
        )
        cache = GaugeMetricFamily("palimpsest_engine_cache_bytes", "Keys and values held.", labels=["model"])
        tokens = CounterMetricFamily(
            "palimpsest_tokens",
            "Tokens prefilled, spared by a shared prefix, generated.",
            labels=["model", "kind"],
        )
        passes = GaugeMetricFamily(
            "palimpsest_engine_forward",
            "1 for the forward pass a model runs; not compiled on a CPU means that the compiled pass was refused.",
            labels=["model", "kind"],
        )
        interrupted = CounterMetricFamily(
            "palimpsest_engine_background_interrupted",
            "Background requests that gave their memory to interactive ones.",
            labels=["model"],
        )
        for hosted in self._host.hosted():
            model, engine = hosted.record.model_id, hosted.engine
            streams.add_metric([model, "running"], engine.running)
            streams.add_metric([model, "waiting"], engine.waiting)
            for state, count in zip(("running", "paused", "waiting"), engine.background, strict=True):
                streams.add_metric([model, f"background {state}"], count)
            cache.add_metric([model], engine.cache_bytes_used)
            passes.add_metric([model, engine.model.forward_kind], 1)
            tokens.add_metric([model, "prefilled"], engine.counters.prefill_tokens)
            tokens.add_metric([model, "shared"], engine.counters.prefill_tokens_shared)
            tokens.add_metric([model, "generated"], engine.counters.generated_tokens)
            interrupted.add_metric([model], engine.counters.background_interrupted)
        yield from (streams, cache, passes, tokens, interrupted)
