"""How long a request may take: told by the server, shortened by its client, held everywhere."""

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes import FakeEngine, HangingMedia, make_app, run_server
from tests.server.api.client import HELLO, error_of, post

PICTURE = {"type": "image_url", "image_url": {"url": "http://h/"}}
ASK = {"messages": [{"role": "user", "content": [PICTURE]}]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", ASK),
        ("/v1/chat/completions", {**ASK, "stream": True}),
        ("/v1/messages", {**ASK, "max_tokens": 5}),
        ("/v1/messages/count_tokens", ASK),
        ("/tokenize", ASK),
    ],
)
def test_media_that_never_come_end_at_the_clients_deadline(
    tiny_checkpoint: Path, path: str, body: dict[str, Any]
) -> None:
    """And its permit is free again, and the fetch is over."""
    media, engine = HangingMedia(), FakeEngine()
    app = make_app(tiny_checkpoint, engine, media, max_num_seqs=1, max_waiting_requests=0)
    if "messages" in path:
        source = {"type": "image", "source": {"type": "url", "url": "http://h/"}}
        body = {**body, "messages": [{"role": "user", "content": [source]}]}
    with run_server(app) as url:
        began = time.monotonic()
        response = httpx.post(url + path, json=body, headers={"X-Request-Timeout": "0.3"})
        assert 0.3 <= time.monotonic() - began < 2
        assert response.status_code == 504
        if "messages" in path:
            assert response.json()["error"]["type"] == "timeout_error"
        else:
            error = error_of(response)
            assert (error["type"], error["code"]) == ("server_error", "deadline_exceeded")
        assert media.was_cancelled.wait(5)
        assert post(url, HELLO).status_code == 200
    assert len(engine.requests) == 1


def test_the_engine_is_told_the_deadline(tiny_checkpoint: Path) -> None:
    engine = FakeEngine()
    with run_server(make_app(tiny_checkpoint, engine, request_timeout=50)) as url:
        began = time.monotonic()
        for asked in (None, "10", "100", "2.5"):
            headers = {} if asked is None else {"x-request-timeout": asked}
            assert post(url, HELLO, headers=headers).status_code == 200
        body = {"prompt": ["a", "b"]}
        headers = {"X-Request-Timeout": "7"}
        assert httpx.post(f"{url}/v1/completions", json=body, headers=headers).status_code == 200
    left = [request.deadline_s - began for request in engine.requests]
    assert left == pytest.approx([50, 10, 50, 2.5, 7, 7], abs=2)


@pytest.mark.parametrize("asked", ["", "soon", "0", "-1", "nan", "inf", "1e999"])
def test_a_deadline_is_a_number_of_seconds(tiny_checkpoint: Path, asked: str) -> None:
    engine = FakeEngine()
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        for path in ("/v1/chat/completions", "/tokenize"):
            response = httpx.post(url + path, json=HELLO, headers={"X-Request-Timeout": asked})
            assert response.status_code == 400 and not engine.requests
            error = error_of(response)
            assert (error["param"], error["code"]) == ("X-Request-Timeout", "invalid_value")
