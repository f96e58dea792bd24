"""Media through the whole front end: a real server and loader, an engine that says hello."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from model_runtime.checkpoint import load_checkpoint
from server.media import dialer
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from tests.fakes import make_app, run_server
from tests.server.api.client import error_of, post


@contextmanager
def media_server(folder: Path, **settings: Any) -> Iterator[str]:
    """Base URL of a server whose media path has these `MediaSettings`."""
    checkpoint = load_checkpoint(folder, "tiny")
    loader = MediaLoader(MediaSettings(**settings), checkpoint.tiles)
    with run_server(make_app(folder, media=loader)) as url:
        yield url


def ask(base: str, url: str, kind: str = "image", **fields: Any) -> httpx.Response:
    content = [{"type": f"{kind}_url", f"{kind}_url": {"url": url, **fields}}]
    body = {"messages": [{"role": "user", "content": content}]}
    return post(base, body, timeout=60, trust_env=False)


def check(response: httpx.Response, codes: str, kind: str = "image") -> None:
    """`codes`: `200`, or the codes that are right, separated by `|`. Never a 5xx, never a word
    about the inside."""
    if response.status_code == 200:
        assert "200" in codes.split("|"), response.text
        return
    error = error_of(response)
    assert response.status_code == 400, response.text
    assert error["code"] in codes.split("|"), response.text
    assert error["param"] == f"messages[0].content[0].{kind}_url.url"
    for secret in ("Traceback", "0x", "127.0.0.1", "169.254", "/tmp", "/etc", "object at"):
        assert secret not in response.text


@contextmanager
def names(known: dict[str, list[str]]) -> Iterator[list[str]]:
    """A resolver that knows these names only; yields what it was asked."""
    asked: list[str] = []
    real: Callable[[str, int], list[str]] = dialer.lookup
    lock = threading.Lock()

    def lookup(host: str, port: int) -> list[str]:
        with lock:
            asked.append(host)
        if host in known:
            return known[host]
        if host.endswith(".example"):
            raise OSError("no such name")
        return real(host, port)

    dialer.lookup = lookup
    try:
        yield asked
    finally:
        dialer.lookup = real
