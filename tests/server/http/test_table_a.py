"""Who may ask: the rows of the bad-input corpus about keys, as raw bytes."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.routing import Route

from server.http.keys import KeyCheck
from tests.fakes import make_app, run_server
from tests.server.http.talk import BODY, CHAT, request, say

KEYS = ("sk-first-0123456789", "clé")


@pytest.fixture(scope="module")
def app(tiny_checkpoint: Path) -> FastAPI:
    return make_app(tiny_checkpoint, api_key=KEYS)


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with run_server(app) as base:
        yield base


KEY = KEYS[0]
BAD: list[tuple[str, bytes, int]] = [
    ("A01", request(), 401),
    ("A02-empty", request("Authorization: Bearer "), 401),
    ("A02-alone", request("Authorization: Bearer"), 401),
    ("A02-nothing", request("Authorization:"), 401),
    ("A03-basic", request(f"Authorization: Basic {KEY}"), 401),
    ("A03-no-scheme", request(f"Authorization: {KEY}"), 401),
    ("A04-start", request(f"Authorization: Bearer x{KEY[1:]}"), 401),
    ("A04-end", request(f"Authorization: Bearer {KEY[:-1]}x"), 401),
    ("A05-letter", request("Authorization: Bearer é"), 401),
    ("A05-latin", request(b"Authorization: Bearer cl\xe9"), 401),
    ("A05-megabyte", request(f"Authorization: Bearer {'x' * (1 << 20)}"), 431),
    ("A05-nul", request(f"Authorization: Bearer {KEY}\0"), 400),
    ("A06-prefix", request(f"Authorization: Bearer {KEY[:-1]}"), 401),
    ("A06-suffix", request(f"Authorization: Bearer {KEY}x"), 401),
    ("A06-before", request(f"Authorization: Bearer  {KEY}"), 401),
    ("A06-after", request(f"Authorization: Bearer {KEY} "), 401),
    ("A06-inside", request(f"Authorization: Bearer {KEY} {KEY}"), 401),
    ("A07", request(*[f"Authorization: Bearer {key}" for key in (KEY, KEY)]), 401),
    ("A07-x-api-key", request(*[f"x-api-key: {key}" for key in (KEY, KEY)]), 401),
    ("A07-both", request(f"Authorization: Bearer {KEY}", f"x-api-key: {KEYS[1]}"), 401),
    ("A07-one-wrong", request(f"Authorization: Bearer {KEY}", "x-api-key: no"), 401),
    ("A08-query", request(start=b"POST " + CHAT + f"?api_key={KEY} HTTP/1.1".encode()), 401),
    ("A08-header", request(f"api-key: {KEY}"), 401),
    ("A08-cookie", request(f"Cookie: api_key={KEY}"), 401),
    ("A08-x-api-key", request("x-api-key: no"), 401),
    ("H61", request(host="x/health?"), 400),
]
GOOD: list[tuple[str, bytes]] = [
    ("A03-lower", request(f"Authorization: bearer {KEY}")),
    ("bearer", request(f"Authorization: Bearer {KEY}")),
    ("utf-8", request(f"Authorization: Bearer {KEYS[1]}")),
    ("x-api-key", request(f"x-api-key: {KEY}")),
    ("both", request(f"Authorization: Bearer {KEY}", f"x-api-key: {KEY}")),
]


@pytest.mark.parametrize(("sent", "status"), [r[1:] for r in BAD], ids=[r[0] for r in BAD])
def test_who_is_not_known(url: str, sent: bytes, status: int) -> None:
    heard = say(url, sent)
    assert heard.status == status
    if status == 401:
        assert heard.code == "invalid_api_key" and heard.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("sent", [r[1] for r in GOOD], ids=[r[0] for r in GOOD])
def test_who_is_known(url: str, sent: bytes) -> None:
    assert say(url, sent).status == 200


def test_a09_every_route_needs_a_key_but_the_operators_and_the_page(app: FastAPI, url: str) -> None:
    open_paths = {"/livez", "/readyz", "/health", "/metrics", "/", "/ui/{name:path}"}
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert open_paths < {route.path for route in routes}
    for route in routes:
        path = route.path.replace("{model:path}", "tiny")
        for method in route.methods or ():
            response = httpx.request(method, url + path)
            assert (response.status_code != 401) == (path in open_paths), path
    for path in (
        "/livez/",
        "/livez/x",
        "//livez",
        "/metrics;x",
        "/health/../v1/models",
        "/nothing",
        "/ui",
    ):
        assert say(url, request(start=f"GET {path} HTTP/1.1".encode())).status == 401, path
    assert say(url, request(start=b"GET /ui/../v1/models HTTP/1.1")).status == 404


@pytest.mark.alone
async def test_a04_the_time_tells_nothing_of_the_key() -> None:
    """Medians of many, wrong at the start and wrong at the end."""

    async def nobody(*_: object) -> None: ...

    check = KeyCheck(nobody, KEYS)
    medians = []
    for wrong in (f"x{KEY[1:]}", f"{KEY[:-1]}x"):
        scope = {"headers": [(b"authorization", f"Bearer {wrong}".encode())]}
        times = []
        for _ in range(3000):
            started = time.perf_counter_ns()
            assert check._known(scope) is None
            times.append(time.perf_counter_ns() - started)
        medians.append(statistics.median(times))
    assert 0.5 < medians[0] / medians[1] < 2


def test_a_refused_body_is_not_read(url: str) -> None:
    assert say(url, request(length=1 << 20, body=BODY)).status == 401
