"""Traces by OpenTelemetry: one span per request, and one below it for each of its stages.

Without `--otlp-traces-endpoint` every span is a no-op of the API, which costs next to nothing.
Attributes are named by the semantic conventions for HTTP and generative AI. No span carries
content, a key, a URL or an exception's text.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

from opentelemetry.propagate import extract
from opentelemetry.trace import (
    NoOpTracerProvider,
    Span,
    SpanKind,
    StatusCode,
    TracerProvider,
)

from server.logs import RequestLine

Stage = Literal["media fetch", "media decode", "prompt", "queue", "prefill", "decode"]
_EXPORT_TIMEOUT_S = 5.0
_FACT_ATTRIBUTES = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "ttft_s": "gen_ai.response.time_to_first_chunk",
    "media": "internvl.request.media.count",
}


class TracingError(Exception):
    """Traces were asked for and cannot be sent; the message says what to do."""


class Tracer:
    """Makes the spans. They nest by context variables, so each asyncio task has its own."""

    def __init__(
        self, provider: TracerProvider | None = None, close: Callable[[], None] = lambda: None
    ) -> None:
        """`close` sends what has not been sent yet; it may block for some seconds."""
        self._tracer = (provider or NoOpTracerProvider()).get_tracer("internvl-server")
        self.close = close

    @contextmanager
    def request(self, headers: Mapping[str, str]) -> Iterator[Span]:
        """The span of a whole request, below the client's when it sent a `traceparent`."""
        with self._tracer.start_as_current_span(
            "request",
            extract(headers),
            SpanKind.SERVER,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield span

    @contextmanager
    def span(self, stage: Stage, **attributes: Any) -> Iterator[Span]:
        """A stage of the current request that begins and ends here."""
        with self._tracer.start_as_current_span(
            stage, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(StatusCode.ERROR)
                raise

    def record(self, stage: Stage, started: float, ended: float, **attributes: Any) -> None:
        """A stage of the current request that is over. Times are those of `time.monotonic`."""
        begun = self._tracer.start_span(
            stage, attributes=attributes, start_time=_since_epoch_ns(started)
        )
        begun.end(_since_epoch_ns(ended))


def describe(span: Span, line: RequestLine) -> None:
    """Tell in a request's span what its log line tells."""
    span.set_attributes(
        {
            "http.request.method": line.method,
            "http.route": line.route,
            "http.response.status_code": line.status,
            "internvl.request.id": line.request_id,
        }
    )
    facts = line.facts
    span.update_name(f"{line.method} {line.route}")
    if "model" in facts:
        span.update_name(f"chat {facts['model']}")
        span.set_attributes(_of_generation(facts))
    if line.status >= 400:
        span.set_attribute("error.type", str(facts.get("error", line.status)))
    if line.status >= 500:  # a client's mistake is no error of the server's span
        span.set_status(StatusCode.ERROR)


def _of_generation(facts: Mapping[str, Any]) -> dict[str, Any]:
    attributes = {name: facts[fact] for fact, name in _FACT_ATTRIBUTES.items() if fact in facts}
    if "finish" in facts:
        attributes["gen_ai.response.finish_reasons"] = [facts["finish"]]
    return attributes | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "internvl-server",
        "gen_ai.request.model": facts["model"],
        "gen_ai.response.model": facts["model"],
    }


def _since_epoch_ns(monotonic_s: float) -> int:
    return time.time_ns() - int((time.monotonic() - monotonic_s) * 1e9)


def make_tracer(endpoint: str | None, version: str) -> Tracer:
    """A tracer that sends its spans to `endpoint`. Raises TracingError."""
    if endpoint is None:
        return Tracer()
    if not endpoint.startswith(("http://", "https://")):
        raise TracingError("--otlp-traces-endpoint is a URL, as in http://localhost:4318/v1/traces")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider as SdkProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(
            "--otlp-traces-endpoint needs OpenTelemetry: pip install 'internvl-server[otel]'"
        ) from error
    service = {"service.name": "internvl-server", "service.version": version}
    provider = SdkProvider(resource=Resource.create(service), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracer(provider, provider.shutdown)
