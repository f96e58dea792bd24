"""Traces: one span per request, its stages below it, nothing of its content."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from model_runtime.checkpoint import Checkpoint, load_checkpoint
from server.app import create_app
from server.engine.types import GenerationRequest, TextDelta, Timings
from server.metrics import Metrics
from server.prompt.builder import PromptBuilder
from server.settings import ServerSettings
from server.tracing import Tracer, TracingError, make_tracer
from tests.fakes import FakeEngine, FakeMedia, run_server
from tests.server.api.client import HELLO, post

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracer(provider)


def traced_app(checkpoint: Checkpoint, tracer: Tracer, engine: FakeEngine | None = None) -> FastAPI:
    return create_app(
        engine=engine or FakeEngine(),
        media=FakeMedia(),  # type: ignore[arg-type]
        prompts=PromptBuilder(checkpoint, 2048),
        checkpoint=checkpoint,
        settings=ServerSettings(),
        metrics=Metrics(),
        tracer=tracer,
    )


@pytest.fixture
def url(tiny_checkpoint: Path, tracer: Tracer) -> Iterator[str]:
    with run_server(traced_app(load_checkpoint(tiny_checkpoint, "tiny"), tracer)) as base:
        yield base


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    """The one span of a request: a client has its answer a moment before it ends."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = [span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
        if found:
            break
        time.sleep(0.01)
    (span,) = found
    return span


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_a_span_by_the_conventions(
    url: str, spans: InMemorySpanExporter, stream: bool
) -> None:
    response = post(url, {**HELLO, "stream": stream}, headers={"traceparent": PARENT})
    assert response.status_code == 200
    span = only(spans)
    attributes = dict(span.attributes or {})
    assert span.name == "chat tiny" and span.kind is SpanKind.SERVER
    assert span.context and f"{span.context.trace_id:032x}" in PARENT
    assert span.parent and f"{span.parent.span_id:016x}" in PARENT
    expected = {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.response.finish_reasons": ("stop",),
        "internvl.request.id": response.headers["x-request-id"],
    }
    assert attributes.items() >= expected.items()
    assert attributes["gen_ai.usage.input_tokens"] > 0
    assert span.status.status_code is StatusCode.UNSET
    assert "Hi" not in json.dumps(attributes)


def test_a_refusal_is_no_error_of_the_server(url: str, spans: InMemorySpanExporter) -> None:
    post(url, {**HELLO, "n": 200})
    span = only(spans)
    assert span.name == "POST /v1/chat/completions"
    assert dict(span.attributes or {})["error.type"] == "invalid_value"
    assert span.status.status_code is StatusCode.UNSET


def test_probes_leave_no_span(url: str, spans: InMemorySpanExporter) -> None:
    httpx.get(f"{url}/readyz")
    assert not spans.get_finished_spans()


async def test_stages_nest_below_their_own_request(
    tracer: Tracer, spans: InMemorySpanExporter
) -> None:
    """Two requests at a time, each with stages in tasks of their own."""

    async def stage(index: int) -> None:
        with tracer.span("media fetch", index=index):
            await asyncio.sleep(0)

    async def request(index: int) -> None:
        with tracer.request({}):
            await asyncio.gather(stage(index), stage(index))
            tracer.record("prefill", time.monotonic() - 2, time.monotonic() - 1, index=index)

    await asyncio.gather(request(0), request(1))
    finished = spans.get_finished_spans()
    roots = {s.context.span_id: s for s in finished if s.parent is None and s.context}
    stages = [s for s in finished if s.parent is not None]
    assert len(roots) == 2 and len(stages) == 6
    for index in (0, 1):
        own = [s for s in stages if dict(s.attributes or {})["index"] == index]
        assert len({s.parent.span_id for s in own if s.parent}) == 1
        assert {s.parent.span_id for s in own if s.parent} < set(roots)
    prefill = next(s for s in stages if s.name == "prefill")
    assert prefill.start_time and prefill.end_time
    assert abs(prefill.end_time - prefill.start_time - 1e9) < 1e7
    assert abs(time.time_ns() - prefill.end_time - 1e9) < 1e9


def test_a_stage_that_fails_tells_the_kind_and_not_the_text(
    tracer: Tracer, spans: InMemorySpanExporter
) -> None:
    with pytest.raises(ValueError), tracer.span("prompt"):
        raise ValueError("what the user wrote")
    (span,) = spans.get_finished_spans()
    assert dict(span.attributes or {}) == {"error.type": "ValueError"} and not span.events
    assert span.status.status_code is StatusCode.ERROR and not span.status.description


def test_without_the_setting_nothing_is_recorded() -> None:
    tracer = make_tracer(None, "1")
    with tracer.request({"traceparent": PARENT}) as span:
        assert not span.is_recording()
        with tracer.span("queue") as stage:
            assert not stage.is_recording()


class Collector(BaseHTTPRequestHandler):
    """Takes what is exported."""

    received: list[ExportTraceServiceRequest] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_spans_reach_a_collector_before_the_end() -> None:
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{collector.server_port}/v1/traces"
    tracer = make_tracer(endpoint, "1.2")
    with tracer.request({}):
        pass
    tracer.close()
    collector.shutdown()
    collector.server_close()
    (resource,) = Collector.received[0].resource_spans
    service = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert (service["service.name"], service["service.version"]) == ("internvl-server", "1.2")
    assert [span.name for span in resource.scope_spans[0].spans] == ["request"]


def test_the_end_of_the_server_sends_the_last_spans(tiny_checkpoint: Path) -> None:
    closed = threading.Event()
    checkpoint = load_checkpoint(tiny_checkpoint, "tiny")
    with run_server(traced_app(checkpoint, Tracer(close=closed.set))):
        assert not closed.is_set()
    assert closed.wait(5)


def test_a_dead_collector_delays_the_end_by_seconds_at_most() -> None:
    tracer = make_tracer("http://127.0.0.1:9/v1/traces", "1")
    with tracer.request({}):
        pass
    started = time.monotonic()
    tracer.close()
    assert time.monotonic() - started < 10


def test_a_bad_endpoint_or_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TracingError, match="URL"):
        make_tracer("localhost:4317", "1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
    with pytest.raises(TracingError, match="otel"):
        make_tracer("http://h/", "1")


def test_the_sdk_is_not_loaded_without_the_setting() -> None:
    code = "import sys, server.__main__; print('opentelemetry.sdk.trace.export' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_each_stage_of_an_answer_is_a_span_below_it(
    tiny_checkpoint: Path, tracer: Tracer, spans: InMemorySpanExporter
) -> None:
    times = Timings(queue_s=0.5, prefill_s=0.25, decode_s=0.125, num_tokens=2, num_preemptions=0)

    async def timed(_: GenerationRequest) -> AsyncIterator[TextDelta]:
        yield TextDelta("Hi", 2, "stop", timings=times)

    app = traced_app(load_checkpoint(tiny_checkpoint, "tiny"), tracer, FakeEngine(timed))
    picture = {"type": "image_url", "image_url": {"url": "http://h/"}}
    with run_server(app) as url:
        body = {"messages": [{"role": "user", "content": [picture]}]}
        assert post(url, body).status_code == 200
        whole = only(spans)
    stages = {s.name: s for s in spans.get_finished_spans() if s is not whole}
    assert set(stages) == {"media fetch", "media decode", "prompt", "queue", "prefill", "decode"}
    assert all(s.parent.span_id == whole.context.span_id for s in stages.values())
    seconds = {name: (s.end_time - s.start_time) / 1e9 for name, s in stages.items()}
    assert seconds["queue"] == pytest.approx(0.5, abs=0.01)
    assert seconds["prefill"] == pytest.approx(0.25, abs=0.01)
    assert stages["prefill"].end_time == pytest.approx(stages["decode"].start_time, abs=1e7)
