"""Around the chat endpoint: routes, keys, ids, health, overload, clients that leave."""

from pathlib import Path

import httpx
import pytest

from tests.fakes import FakeEngine, break_down, make_app, run_server, say_nothing_for_ever
from tests.server.api.client import HELLO, error_of, events, post


def test_unknown_model_route_and_method(url: str) -> None:
    response = post(url, {**HELLO, "model": "nope"})
    assert response.status_code == 404 and error_of(response)["code"] == "model_not_found"
    assert error_of(httpx.get(f"{url}/v1/nothing"))["code"] == "unknown_url"
    assert httpx.get(f"{url}/v1/models/nope").status_code == 404
    response = httpx.get(f"{url}/v1/chat/completions")
    assert response.status_code == 405 and error_of(response)["code"] == "method_not_allowed"


def test_a_large_body_is_a_413(url: str) -> None:
    response = post(url, b" " * (1 << 21))
    assert response.status_code == 413 and error_of(response)["code"] == "request_too_large"


def test_request_ids_are_echoed_or_made(url: str) -> None:
    assert post(url, HELLO, headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = post(url, HELLO, headers={"X-Request-Id": "bad id"}).headers["x-request-id"]
    assert len(made) == 32


def test_an_engine_failure_is_a_500_or_an_error_event(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(break_down))) as url:
        response = post(url, HELLO)
        assert response.status_code == 500 and error_of(response)["code"] == "engine_error"
        chunks = events(post(url, {**HELLO, "stream": True}), is_failed=True)
        assert chunks[-1]["error"]["code"] == "engine_error"


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
        assert response.status_code == 503 and response.headers["retry-after"] == "1"
        assert error_of(response)["code"] == "server_overloaded"


def test_not_ready_is_told_everywhere_but_livez(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, FakeEngine(not_ready="loading the model"))) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
        for path in ("/readyz", "/health"):
            response = httpx.get(url + path)
            assert response.status_code == 503 and "loading" in response.text
        assert post(url, HELLO).status_code == 503


def test_keys_guard_all_but_health_and_metrics(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, api_key=("one", "two"))) as url:
        for header in ({}, {"Authorization": "Bearer no"}, {"Authorization": "one"}):
            response = post(url, HELLO, headers=header)
            assert response.status_code == 401 and error_of(response)["code"] == "invalid_api_key"
        for key in ("one", "two"):
            assert post(url, HELLO, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        for path in ("/livez", "/readyz", "/metrics"):
            assert httpx.get(url + path).status_code == 200


def test_metrics_count_what_happened(url: str) -> None:
    post(url, HELLO)
    text = httpx.get(f"{url}/metrics").text
    assert 'internvl:request_success_total{finished_reason="stop"}' in text
    for name in ("time_to_first_token_seconds", "generation_tokens_total", "kv_cache_usage_perc"):
        assert f"internvl:{name}" in text


def test_openapi_describes_the_request(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    assert "messages" in body["content"]["application/json"]["schema"]["properties"]
    assert "Message" in document["components"]["schemas"]
