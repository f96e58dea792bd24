"""Refusals at the door: cheap, before the body, with a reason, and by key."""

import statistics
import time
from pathlib import Path

import httpx
import pytest

from tests.fakes import FakeEngine, FakeMedia, make_app, run_server, say_nothing_for_ever
from tests.server.http.talk import STREAM, connect, hear, request, say


def refusals(url: str, reason: str) -> float:
    name = f'internvl:admission_refusals_total{{reason="{reason}"}} '
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_a_rate_is_of_a_key(tiny_checkpoint: Path) -> None:
    app = make_app(tiny_checkpoint, api_key=("a", "b"), requests_per_minute=2)
    with run_server(app) as url:
        for key in ("a", "b"):
            sent = request(f"Authorization: Bearer {key}")
            assert [say(url, sent).status for _ in range(2)] == [200, 200]
            heard = say(url, sent)
            assert (heard.status, heard.code) == (429, "rate_limit_exceeded")
            assert 50 <= int(heard.headers["retry-after"]) <= 62
            models = httpx.get(f"{url}/v1/models", headers={"x-api-key": key})
            assert models.status_code == 200
        assert say(url, request("x-api-key: no")).status == 401
        assert refusals(url, "rate") == 2


def test_a_full_house_answers_before_the_body_and_in_no_time(tiny_checkpoint: Path) -> None:
    """A body of a MiB is announced, and never sent."""
    media = FakeMedia()
    engine = FakeEngine(say_nothing_for_ever)
    app = make_app(tiny_checkpoint, engine, media, max_num_seqs=1, max_waiting_requests=0)
    with run_server(app) as url, connect(url) as inside:
        inside.sendall(request(body=STREAM))
        assert inside.recv(100).startswith(b"HTTP/1.1 200")
        times, waits = [], set()
        for _ in range(50):
            with connect(url) as connection:
                connection.sendall(request(length=1 << 20, body=b"{"))
                started = time.perf_counter()
                heard = hear(connection)
                times.append(time.perf_counter() - started)
            assert (heard.status, heard.code) == (503, "server_overloaded")
            waits.add(heard.headers["retry-after"])
        assert statistics.median(times) < 0.01
        assert waits == {"1", "2", "3"}
        assert refusals(url, "full") == 50 and not media.requests


def test_the_lag_of_the_event_loop_is_measured(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint)) as url:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            text = httpx.get(f"{url}/metrics").text
            if "internvl:event_loop_lag_seconds_count 0.0" not in text:
                break
        assert 'internvl:event_loop_lag_seconds_bucket{le="0.001"}' in text
        assert "internvl:event_loop_lag_seconds_count 0.0" not in text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/models", "/version"])
def test_a_full_house_still_tells_how_it_is(tiny_checkpoint: Path, path: str) -> None:
    app = make_app(tiny_checkpoint, requests_per_minute=1)
    with run_server(app) as url:
        assert [say(url, request()).status for _ in range(2)] == [200, 429]
        assert httpx.get(url + path).status_code == 200
