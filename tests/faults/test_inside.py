"""Rows of the fault table in which a part of the front end fails: F28, F29, F57."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from fastapi import FastAPI

from server.admission import Admission
from server.api.answer import Answer
from server.metrics import Metrics
from server.prompt import tokens
from server.prompt.builder import PromptBuilder
from tests.fakes import FakeEngine, FakeMedia, make_app, run_server

HELLO = {"messages": [{"role": "user", "content": "Hi"}]}


class PanicException(BaseException):
    """As a panic in Rust arrives in Python: no Exception."""


PATHS = {
    "/v1/chat/completions": HELLO,
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": HELLO | {"max_tokens": 5, "model": "tiny"},
    "/v1/completions": {"prompt": "Hi"},
}
PLACES: list[tuple[type, str]] = [
    (PromptBuilder, "prepare"),
    (PromptBuilder, "encode"),
    (PromptBuilder, "build"),
    (PromptBuilder, "detokenizer"),
    (FakeEngine, "submit"),
    (FakeMedia, "open"),
    (Answer, "account"),
    (Admission, "admit"),
]


@pytest.fixture
def app(tiny_checkpoint: Path) -> FastAPI:
    return make_app(tiny_checkpoint)


@pytest.fixture
def url(app: FastAPI) -> Iterator[str]:
    with run_server(app) as base:
        yield base


def ask_all(url: str) -> list[int]:
    asked = PATHS.items()
    return [httpx.post(url + path, json=body, timeout=10).status_code for path, body in asked]


def test_f28_memory_runs_out_at_some_point(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 for the requests that pass there, in the right shape; the next ones are answered."""
    num_failed = 0
    for owner, name in PLACES:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, Mock(side_effect=MemoryError))
            for path, body in PATHS.items():
                answer = httpx.post(url + path, json=body, timeout=10)
                assert answer.status_code in (200, 500), (name, path, answer.text)
                if answer.status_code == 500:
                    num_failed += 1
                    assert "The server failed." in answer.text and "MemoryError" not in answer.text
        assert ask_all(url) == [200] * len(PATHS), name
        assert "internvl:requests_inside 0.0" in httpx.get(f"{url}/metrics").text
    assert num_failed >= 2 * len(PLACES)


def test_f28_memory_runs_out_in_a_stream(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Answer, "account", Mock(side_effect=MemoryError))
        answer = httpx.post(f"{url}/v1/chat/completions", json=HELLO | {"stream": True})
    assert answer.status_code == 200 and '"internal_error"' in answer.text
    assert "[DONE]" not in answer.text
    assert ask_all(url) == [200] * len(PATHS)


def test_f29_metrics_that_cannot_be_read_cost_no_request(
    app: FastAPI, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Metrics, "expose", Mock(side_effect=RuntimeError("a collector")))
    answer = httpx.get(f"{url}/metrics")
    assert answer.status_code == 500 and "collector" not in answer.text
    assert ask_all(url) == [200] * len(PATHS)


def test_f57_a_text_that_the_tokenizer_cannot_bear(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tokens._load

    def fragile(*where: Any) -> Any:
        real = make(*where)
        fake = Mock(wraps=real)
        fake.encode.side_effect = lambda text, **options: (
            panic() if "strange" in text else real.encode(text, **options)
        )
        return fake

    monkeypatch.setattr(tokens, "_load", fragile)
    with run_server(make_app(tiny_checkpoint)) as url:
        strange = {"messages": [{"role": "user", "content": "a strange text"}]}
        for changes in ({}, {"stream": True}):
            answer = httpx.post(f"{url}/v1/chat/completions", json=strange | changes)
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "internal_error"
        assert ask_all(url) == [200] * len(PATHS)


def panic() -> None:
    raise PanicException("the tokenizer panicked")
