"""The log: one line per request that tells its fate and nothing of its content."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_runtime.logs import JsonFormatter
from tests.fakes import FakeEngine, break_down, make_app, run_server
from tests.server.api.client import HELLO, post

KEY, SECRET = "key-of-the-house", "words that nobody else may read"
PICTURE = {"type": "image_url", "image_url": {"url": "http://h/private-name.png?token=abc"}}


@pytest.fixture
def url(tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture) -> Iterator[str]:
    with (
        caplog.at_level(logging.INFO),
        run_server(make_app(tiny_checkpoint, api_key=(KEY,))) as base,
    ):
        yield base


def as_json(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[dict[str, Any]]:
    """The lines of `count` requests: a client has its answer a moment before."""
    deadline = time.monotonic() + 5
    while True:
        records = [r for r in caplog.records if r.name == "server.access"]
        if len(records) >= count or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert len(records) == count
    return [json.loads(JsonFormatter().format(record)) for record in records]


def ask(url: str, *parts: Any, **options: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": list(parts)}], **options}
    return post(url, body, headers={"Authorization": f"Bearer {KEY}", "X-Request-Id": "mine"})


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_leaves_one_line(
    url: str, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    ask(url, {"type": "text", "text": SECRET}, PICTURE, stream=stream)
    (line,) = as_json(caplog)
    expected = {
        "level": "info",
        "event": "request",
        "id": "mine",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "model": "tiny",
        "media": 1,
        "finish": "stop",
        "completion_tokens": 4,
    }
    assert line.items() >= expected.items()
    assert line["prompt_tokens"] > 0 and 0 <= line["ttft_s"] <= line["duration_s"]
    assert line["time"].endswith("+00:00")


def test_a_refusal_leaves_its_code(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(url, {"type": "text", "text": SECRET}, n=200).status_code == 400
    (line,) = as_json(caplog)
    assert (line["status"], line["error"]) == (400, "invalid_value") and "model" not in line


def test_no_line_tells_content_keys_or_urls(url: str, caplog: pytest.LogCaptureFixture) -> None:
    ask(url, {"type": "text", "text": SECRET}, PICTURE)
    ask(url, {"type": "text", "text": SECRET}, model=SECRET)
    httpx.get(f"{url}/v1/models?key={KEY}", headers={"Authorization": "Bearer wrong-key"})
    httpx.get(f"{url}/{SECRET}", headers={"Authorization": f"Bearer {KEY}"})
    told = json.dumps(as_json(caplog, 4))
    lines = [r.getMessage() for r in caplog.records if r.name.startswith(("server", "model_"))]
    text = "\n".join(lines) + told
    assert text.count("/v1/chat/completions 200") == 1 and "(no route) 404" in text
    for secret in (KEY, SECRET, "private-name", "token=abc", "wrong-key"):
        assert secret not in text and secret.replace(" ", "%20") not in text


def test_probes_leave_no_line(url: str, caplog: pytest.LogCaptureFixture) -> None:
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert httpx.get(url + path).headers["x-request-id"]
    assert as_json(caplog, 0) == []


def test_a_bug_is_a_500_in_the_log(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(break_down)
    monkeypatch.setattr(engine, "submit", lambda request: 1 / 0)
    with caplog.at_level(logging.INFO), run_server(make_app(tiny_checkpoint, engine)) as base:
        assert post(base, HELLO).status_code == 500
    (line,) = as_json(caplog)
    assert line["status"] == 500


def test_a_line_stays_one_line_whatever_is_in_it() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("name", logging.ERROR, "", 0, "it \n %s", ("\ud800",), info)
    text = JsonFormatter().format(record)
    line = json.loads(text)
    assert "\n" not in text and line["message"] == "it \n \ud800" and line["level"] == "error"
    assert "ValueError: a\nb" in line["exception"]
