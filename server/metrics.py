"""What `/metrics` shows. Names and meanings are vLLM's under the prefix `internvl:`."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from model_runtime.protocol import StepStats
from server.engine.types import EngineCounts, Timings

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SHORT_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2)


class Metrics:
    """Owns the registry. Also the listener of the media path (`MediaObserver`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._last_stats: StepStats | None = None
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of answered requests")
        self.cached_prompt_tokens = self._counter(
            "cached_prompt_tokens", "Those of them that came from the prefix cache"
        )
        self.generation_tokens = self._counter("generation_tokens", "Tokens generated")
        self.num_preemptions = self._counter("num_preemptions", "Preemptions by the scheduler")
        self.request_success = self._counter(
            "request_success", "Finished requests by reason", ["finished_reason"]
        )
        self.request_failure = self._counter("request_failure", "Failed requests by code", ["code"])
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds", "Request received to first token"
        )
        self.inter_token_latency = self._histogram(
            "inter_token_latency_seconds", "Gap between tokens", _SHORT_SECONDS
        )
        self._queue_time = self._histogram(
            "request_queue_time_seconds", "Handed to the engine to first given a seat"
        )
        self._prefill_time = self._histogram(
            "request_prefill_time_seconds", "First given a seat to first token"
        )
        self._decode_time = self._histogram(
            "request_decode_time_seconds", "First token to last token"
        )
        self._time_per_output_token = self._histogram(
            "request_time_per_output_token_seconds",
            "Decode time of an answer by its tokens after the first",
            _SHORT_SECONDS,
        )
        self.e2e_latency = self._histogram(
            "e2e_request_latency_seconds", "Request received to last token"
        )
        self._media_fetch = self._histogram("media_fetch_seconds", "Time to fetch one item")
        self._media_wait = self._histogram("media_wait_seconds", "Time to wait for a decoder")
        self._media_decode = self._histogram("media_decode_seconds", "Time to decode one item")
        self._media_bytes = self._counter("media_fetched_bytes", "Bytes of media fetched")
        self._tile_cache_queries = self._counter(
            "tile_cache_queries", "Media looked up among the decoded ones"
        )
        self._tile_cache_hits = self._counter("tile_cache_hits", "Media that was decoded already")
        self._media_failures = self._counter("media_failures", "Media failures by code", ["code"])
        self._engine = _EngineCollector(lambda: self._last_stats)
        self.registry.register(self._engine)

    def expose(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge that is read when it is scraped."""
        Gauge(f"internvl:{name}", text, registry=self.registry).set_function(read)

    def watch(self, counts: Callable[[], EngineCounts]) -> None:
        """Counters that the engine keeps."""
        self.registry.register(_CountsCollector(counts))

    def on_step(self, stats: StepStats) -> None:
        before = self._last_stats.num_preemptions if self._last_stats else 0
        self.num_preemptions.inc(max(0, stats.num_preemptions - before))
        self._last_stats = stats

    def on_timings(self, times: Timings) -> None:
        """Of one answer that is over."""
        self._queue_time.observe(times.queue_s)
        self._prefill_time.observe(times.prefill_s)
        self._decode_time.observe(times.decode_s)
        if times.num_tokens > 1:
            self._time_per_output_token.observe(times.decode_s / (times.num_tokens - 1))

    def on_fetch(self, seconds: float, num_bytes: int) -> None:
        self._media_fetch.observe(seconds)
        self._media_bytes.inc(num_bytes)

    def on_wait(self, seconds: float) -> None:
        self._media_wait.observe(seconds)

    def on_decode(self, seconds: float) -> None:
        self._media_decode.observe(seconds)

    def on_tile_cache(self, is_hit: bool) -> None:
        self._tile_cache_queries.inc()
        self._tile_cache_hits.inc(is_hit)

    def on_failure(self, code: str) -> None:
        self._media_failures.labels(code).inc()

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"internvl:{name}", text, labels or [], registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(f"internvl:{name}", text, buckets=buckets, registry=self.registry)


class _EngineCollector(Collector):
    """Gauges of the engine's last step."""

    def __init__(self, read: Callable[[], StepStats | None]) -> None:
        self._read = read

    def collect(self) -> list[Metric]:
        stats = self._read()
        running = stats.num_running if stats else 0
        waiting = stats.num_waiting if stats else 0
        usage = 1 - stats.num_free_blocks / stats.num_blocks if stats else 0.0
        return [
            GaugeMetricFamily("internvl:num_requests_running", "Sequences computed", running),
            GaugeMetricFamily("internvl:num_requests_waiting", "Sequences waiting", waiting),
            GaugeMetricFamily("internvl:kv_cache_usage_perc", "Share of KV blocks in use", usage),
        ]


class _CountsCollector(Collector):
    """What the engine counted, read when it is scraped."""

    def __init__(self, read: Callable[[], EngineCounts]) -> None:
        self._read = read

    def collect(self) -> list[Metric]:
        counts = self._read()
        told = [
            ("worker_restarts", "Workers started after one died", counts.num_worker_restarts),
            ("mm_cache_queries", "Media that requests brought to the engine", counts.num_media),
            ("mm_cache_hits", "Those whose embeddings it held", counts.num_media_held),
        ]
        return [CounterMetricFamily(f"internvl:{name}", text, count) for name, text, count in told]
