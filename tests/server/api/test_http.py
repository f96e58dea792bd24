"""Around the chat endpoint: routes, keys, ids, health, overload, clients that leave."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from blockbuster import blockbuster_ctx

from tests.fakes import (
    FakeEngine,
    HangingMedia,
    break_down,
    make_app,
    run_server,
    say_nothing_for_ever,
)
from tests.server.api.client import HELLO, error_of, events, post


def raw(url: str, request: bytes) -> bytes:
    """What the server says to exactly these bytes, until it closes."""
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80), timeout=5) as connection:
        connection.sendall(request)
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    return answer


def test_unknown_models(url: str) -> None:
    response = post(url, {**HELLO, "model": "nope"})
    assert response.status_code == 404 and error_of(response)["code"] == "model_not_found"
    response = httpx.get(f"{url}/v1/models/nope")
    assert response.status_code == 404 and error_of(response)["code"] == "model_not_found"
    assert httpx.get(f"{url}/v1/models/tiny").json()["max_model_len"] == 2048


@pytest.mark.parametrize(
    "path",
    ["/v1/unknown", "/V1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "//"],
)
def test_unknown_routes(url: str, path: str) -> None:
    response = httpx.post(url + path, json=HELLO)
    assert response.status_code == 404 and error_of(response)["code"] == "unknown_url"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("method", ["GET", "PUT", "TRACE", "OPTIONS"])
def test_other_methods(url: str, method: str) -> None:
    headers = {"Origin": "http://evil.example"}
    response = httpx.request(method, f"{url}/v1/chat/completions", headers=headers)
    assert response.status_code == 405 and error_of(response)["code"] == "method_not_allowed"
    assert response.headers["allow"] == "POST"
    assert not any(name.startswith("access-control") for name in response.headers)


def test_cors_only_for_named_origins(tiny_checkpoint: Path) -> None:
    app = make_app(tiny_checkpoint, allowed_origins=("http://a.example",), api_key=("k",))
    with run_server(app) as url:
        for origin, is_allowed in (("http://a.example", True), ("http://b.example", False)):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            response = httpx.options(f"{url}/v1/chat/completions", headers=headers)
            assert (response.headers.get("access-control-allow-origin") == origin) == is_allowed


def test_a_large_body_is_a_413(url: str) -> None:
    def drip() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * (1 << 16)

    announced = post(url, b" " * (1 << 21))
    headers = {"Content-Type": "application/json"}
    chunked = httpx.post(f"{url}/v1/chat/completions", content=drip(), headers=headers)
    for response in (announced, chunked):
        assert response.status_code == 413 and error_of(response)["code"] == "request_too_large"


def test_an_announced_large_body_is_not_waited_for(url: str) -> None:
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n"
    )
    assert raw(url, head).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("line", [b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/x\r\n\r\n"])
def test_what_is_no_http_is_a_400(url: str, line: bytes) -> None:
    assert raw(url, line).startswith(b"HTTP/1.1 400")


def test_request_ids_are_echoed_or_made(url: str) -> None:
    assert post(url, HELLO, headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for bad in ("bad id", "x" * 10_000, "a%0d%0ab"):
        made = post(url, HELLO, headers={"X-Request-Id": bad}).headers["x-request-id"]
        assert len(made) == 32


def test_an_engine_failure_is_a_500_or_an_error_event(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(break_down))) as url:
        response = post(url, HELLO)
        assert response.status_code == 500 and error_of(response)["code"] == "engine_error"
        chunks = events(post(url, {**HELLO, "stream": True}), is_failed=True)
        assert chunks[-1]["error"]["code"] == "engine_error"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_during_the_fetch_cancels_it(
    tiny_checkpoint: Path, stream: bool
) -> None:
    """Nothing has been submitted; its permit is free again."""
    media, engine = HangingMedia(), FakeEngine()
    app = make_app(tiny_checkpoint, engine, media, max_num_seqs=1, max_waiting_requests=0)
    picture = [{"type": "image_url", "image_url": "http://h/"}]
    with run_server(app) as url:
        with pytest.raises(httpx.ReadTimeout):
            post(
                url,
                {"messages": [{"role": "user", "content": picture}], "stream": stream},
                timeout=0.5,
            )
        assert media.was_cancelled.wait(5)
        assert post(url, HELLO).status_code == 200
    assert len(engine.requests) == 1


def test_nothing_blocks_the_event_loop(url: str) -> None:
    """Long texts, a large body, refusals and a stream, with every blocking call caught."""
    picture = {"type": "image_url", "image_url": "data:image/png;base64," + "A" * 400_000}
    with blockbuster_ctx():
        assert post(url, HELLO).status_code == 200
        assert post(url, {"messages": [{"role": "user", "content": [picture]}]}).status_code == 200
        assert post(url, {**HELLO, "n": 200}).status_code == 400
        assert post(url, {**HELLO, "stream": True}).status_code == 200
        assert httpx.post(f"{url}/v1/responses", json={"input": "Hi"}).status_code == 200
        messages = {**HELLO, "max_tokens": 5, "stream": True}
        assert httpx.post(f"{url}/v1/messages", json=messages).status_code == 200
        response = post(url, {"messages": [{"role": "user", "content": "a b " * 5000}]})
        assert response.status_code == 400
        for path in ("/livez", "/readyz", "/metrics", "/v1/models", "/openapi.json"):
            assert httpx.get(url + path).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_aborts_its_request(tiny_checkpoint: Path, stream: bool) -> None:
    """And its permit is free again."""
    engine = FakeEngine(say_nothing_for_ever)
    with run_server(
        make_app(tiny_checkpoint, engine, max_num_seqs=1, max_waiting_requests=0)
    ) as url:
        for count in (1, 2):
            engine.something_aborted.clear()
            with pytest.raises(httpx.ReadTimeout):
                post(url, {**HELLO, "stream": stream}, timeout=0.5)
            assert engine.something_aborted.wait(5)
            assert len(engine.aborted) == count


def test_a_full_house_is_a_503_with_retry_after(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    app = make_app(tiny_checkpoint, engine, max_num_seqs=1, max_waiting_requests=0)
    with run_server(app) as url:
        path = f"{url}/v1/chat/completions"
        with httpx.stream("POST", path, json={**HELLO, "stream": True}) as inside:
            assert inside.status_code == 200
            response = post(url, HELLO)
        assert response.status_code == 503 and 1 <= int(response.headers["retry-after"]) <= 3
        assert error_of(response)["code"] == "server_overloaded"


def test_an_engine_that_stays_down_fails_liveness(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(not_ready="the engine died too often and stays down")
    engine.is_alive = False
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        answer = httpx.get(f"{url}/livez")
        assert answer.status_code == 503 and "too often" in answer.json()["reason"]
        assert httpx.get(f"{url}/readyz").status_code == 503


def test_not_ready_is_told_everywhere_but_livez(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(not_ready="loading the model"))) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
        for path in ("/readyz", "/health"):
            response = httpx.get(url + path)
            assert response.status_code == 503 and "loading" in response.text
        assert post(url, HELLO).status_code == 503


def test_keys_guard_all_but_health_and_metrics(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, api_key=("one", "two"))) as url:
        for wrong in ("", "Bearer", "Bearer no", "one", "Basic one", "Bearer oneX"):
            assert_unknown(post(url, HELLO, headers={"Authorization": wrong}))
        assert_unknown(post(url, HELLO, headers={"api-key": "one"}))
        assert_unknown(httpx.get(f"{url}/v1/models?api_key=one"))
        for path in ("/v1/models", "/docs", "/openapi.json", "/nothing", "/livez/"):
            assert_unknown(httpx.get(url + path))
        both = [("Authorization", "Bearer one"), ("Authorization", "Bearer two")]
        assert_unknown(httpx.get(f"{url}/v1/models", headers=both))
        for right in ("Bearer one", "Bearer two", "bearer one"):
            assert post(url, HELLO, headers={"Authorization": right}).status_code == 200
        for path in ("/livez", "/readyz", "/health", "/metrics"):
            assert httpx.get(url + path).status_code == 200


def test_a_key_of_strange_bytes_is_only_wrong(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, api_key=("\u00e9",))) as url:
        assert_unknown(
            httpx.get(f"{url}/v1/models", headers={b"Authorization": b"Bearer \xe9\xff"})
        )


def assert_unknown(response: httpx.Response) -> None:
    assert response.status_code == 401 and error_of(response)["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"


def test_metrics_count_what_happened(url: str) -> None:
    post(url, HELLO)
    text = httpx.get(f"{url}/metrics").text
    assert 'internvl:request_success_total{finished_reason="stop"}' in text
    for name in ("time_to_first_token_seconds", "generation_tokens_total", "kv_cache_usage_perc"):
        assert f"internvl:{name}" in text


def test_openapi_describes_the_request(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            declared = [parameter["name"] for parameter in operation["parameters"]]
            assert declared == re.findall(r"{(\w+)}", path)
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    assert "messages" in body["content"]["application/json"]["schema"]["properties"]
    assert "Message" in document["components"]["schemas"]
    for path, field in (("/v1/responses", "input"), ("/v1/messages", "max_tokens")):
        body = document["paths"][path]["post"]["requestBody"]
        assert field in body["content"]["application/json"]["schema"]["properties"]
