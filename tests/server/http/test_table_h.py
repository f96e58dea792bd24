"""What HTTP may look like, as raw bytes to a real server. Names carry the corpus' row ids."""

import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from server.engine.types import GenerationRequest, TextDelta
from tests.fakes import FakeEngine, HangingMedia, make_app, run_server, say_nothing_for_ever
from tests.server.http.corpus import CHUNKED, ROWS
from tests.server.http.talk import (
    BODY,
    STREAM,
    chunked,
    connect,
    hear,
    is_closed,
    request,
    say,
    seconds_until_closed,
)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_one_request(url: str, row: tuple[str, bytes, int, str | None]) -> None:
    _, sent, status, code = row
    heard = say(url, sent)
    assert (heard.status, heard.code) == (status, code), heard
    assert not any(name.startswith("access-control") for name in heard.headers)
    assert "x-request-id" in heard.headers and heard.headers["x-request-id"].isascii()


@pytest.mark.parametrize("code", [400, 431])
def test_a_refused_connection_is_closed(url: str, code: int) -> None:
    sent = request("A B: c" if code == 400 else f"A: {'b' * 40_000}")
    with connect(url) as connection:
        connection.sendall(sent)
        assert hear(connection).status == code
        connection.sendall(request())
        assert is_closed(connection)


@pytest.mark.parametrize(
    ("first", "drip"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\nX: ", b"x", id="H40"),
        pytest.param(b"", b"", id="H41"),
        pytest.param(request(length=100, body=b"abc"), b"", id="H42"),
        pytest.param(request(length=1000, body=b"abc"), b" ", id="H43"),
        pytest.param(request(CHUNKED, length=None, body=b""), b"1\r\n \r\n", id="H43-chunks"),
        pytest.param(b"\r\n", b"\r\n", id="H40-nothing"),
    ],
)
def test_who_drips_is_dropped(url: str, first: bytes, drip: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(first)
        assert 0.8 < seconds_until_closed(connection, drip) < 2.5


def test_a_second_head_that_drips_does_not_cut_the_first_answer(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    with run_server(make_app(tiny_checkpoint, engine), head_timeout=0.2) as url:
        with connect(url) as connection:
            connection.sendall(request(body=STREAM) + b"GET /livez HT")
            connection.settimeout(1)
            assert not is_closed(connection)


def test_h12_bodies_share_a_budget(tiny_checkpoint: Path) -> None:
    """Two of 40 KiB fit at a time; what is given back can be taken again."""
    picture = {"type": "image_url", "image_url": {"url": "http://h/" + "x" * 1000}}
    message = {"role": "user", "content": [picture]}
    body = json.dumps({"messages": [message], "metadata": {"x": "x" * 40_000}}).encode()
    app = make_app(
        tiny_checkpoint, media=HangingMedia(), max_body_bytes=50_000, max_inflight_body_bytes=90_000
    )
    with run_server(app) as url:
        with connect(url) as one, connect(url) as two:
            one.sendall(request(body=body))
            two.sendall(request(CHUNKED, length=None, body=chunked(body)))
            _wait_until_inside(url, 2)
            for refused in (
                request(body=body),
                request(CHUNKED, length=None, body=chunked(body)),
                request(length=50_000, body=b""),
            ):
                heard = say(url, refused)
                assert (heard.status, heard.code) == (503, "server_overloaded")
                assert int(heard.headers["retry-after"]) >= 1
        _wait_until_inside(url, 0)
        assert say(url, request()).status == 200


def _wait_until_inside(url: str, count: int) -> None:
    for _ in range(500):
        if f"internvl:requests_inside {count}.0" in httpx.get(f"{url}/metrics").text:
            return
    raise AssertionError("they did not get inside")


def test_h66_the_body_is_asked_for(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(request("Expect: 100-continue", length=len(BODY), body=b""))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(BODY)
        assert hear(connection).status == 200


def test_h67_pipelined_requests_are_answered_in_turn(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(request(body=STREAM) + request() + b"A B C\r\n\r\n")
        said = b""
        while data := connection.recv(65_536):
            said += data
    stream, end, rest = said.partition(b"[DONE]\n\n\r\n0\r\n\r\n")
    assert end and stream.count(b"HTTP/1.1 200") == 1
    assert b"HTTP/1.1 400" not in stream


def test_h71_an_old_client_gets_a_stream_that_ends_by_close(url: str) -> None:
    for body in (STREAM, BODY):
        with connect(url) as connection:
            start = b"POST /v1/chat/completions HTTP/1.0"
            connection.sendall(request(start=start, host=None, body=body))
            heard = hear(connection)
            assert "transfer-encoding" not in heard.headers
            if body is STREAM:
                assert heard.body.startswith(b"data: {") and heard.body.endswith(b"[DONE]\n\n")
            else:
                assert json.loads(heard.body)["choices"]
            assert is_closed(connection)


def test_trailers_are_no_headers(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, api_key=("k",))) as url:
        body = chunked(BODY, end=b"0\r\nAuthorization: Bearer k\r\n\r\n")
        assert say(url, request(CHUNKED, length=None, body=body)).status == 401


def test_surplus_connections_are_told_and_closed(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint), max_connections=2, linger_timeout=0.3) as url:
        with connect(url) as one, connect(url) as two:
            for connection in (one, two):
                connection.sendall(request())
                assert hear(connection).status == 200
            heard = say(url, request())
            assert (heard.status, heard.code) == (503, "server_overloaded")
            assert "retry-after" in heard.headers
            with connect(url) as silent:
                assert seconds_until_closed(silent) < 1
            one.sendall(request())
            assert hear(one).status == 200
        for _ in range(100):
            if say(url, request()).status == 200:
                return
    raise AssertionError("the others left and made no room")


def test_five_hundred_that_drip_change_nothing(tiny_checkpoint: Path) -> None:
    """Slow loris: no deadline passes meanwhile."""
    with run_server(make_app(tiny_checkpoint)) as url:
        connections = [connect(url) for _ in range(500)]
        try:
            for piece in (b"POST /v1/chat/com", b"pletions HTTP/1.1\r\nA", b": b"):
                for connection in connections:
                    connection.sendall(piece)
                assert say(url, request()).status == 200
        finally:
            for connection in connections:
                connection.close()


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
def test_who_does_not_read_is_dropped(tiny_checkpoint: Path, body: bytes) -> None:
    """Also of an answer that is complete and waits in our memory."""
    engine = FakeEngine(say_a_lot)
    with run_server(make_app(tiny_checkpoint, engine), stall_timeout=0.3) as url:
        with small_window(url) as connection:
            connection.sendall(request(body=body))
            time.sleep(1.5)  # not reading is what is tested
            num_bytes = 0
            with suppress(ConnectionResetError):
                while data := connection.recv(1 << 20):
                    num_bytes += len(data)
        assert 0 < num_bytes < 16 << 20


def test_who_reads_slowly_gets_all(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(say_a_lot)
    with run_server(make_app(tiny_checkpoint, engine), stall_timeout=0.3) as url:
        with small_window(url) as connection:
            connection.sendall(request("Connection: close"))
            num_bytes = 0
            while data := connection.recv(1 << 18):
                num_bytes += len(data)
                time.sleep(0.02)
        assert num_bytes > 16 << 20


async def say_a_lot(_: GenerationRequest) -> AsyncIterator[TextDelta]:
    """More than the sockets of both sides hold."""
    for _ in range(16):
        yield TextDelta("x" * (1 << 20), 1)
    yield TextDelta("", 1, "stop")


def small_window(url: str) -> socket.socket:
    address = httpx.URL(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.settimeout(10)
    connection.connect((address.host, address.port))
    return connection
