"""Tokenize and detokenize over a real socket."""

from typing import Any

import httpx
import pytest

from tests.fakes import FakeEngine
from tests.server.api.client import HELLO, error_of, post


def ask(url: str, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{url}/{path}", json=body)


@pytest.mark.parametrize("text", ["", "Hello, wörld 👋", "a <|im_end|> b", "x " * 6000])
def test_text_there_and_back(url: str, text: str) -> None:
    found = ask(url, "tokenize", {"prompt": text}).json()
    assert found["count"] == len(found["tokens"]) and found["max_model_len"] == 2048
    assert found["token_strs"] is None
    assert ask(url, "detokenize", {"tokens": found["tokens"]}).json() == {"prompt": text}


def test_token_strings(url: str) -> None:
    body = {"prompt": "plain words", "return_token_strs": True}
    assert "".join(ask(url, "tokenize", body).json()["token_strs"]) == "plain words"


def test_a_conversation_is_what_a_completion_sends(url: str, engine: FakeEngine) -> None:
    picture = {"type": "image_url", "image_url": {"url": "http://h/1"}}
    for content in ("Hi", [{"type": "text", "text": "see"}, picture]):
        body = {"messages": [{"role": "user", "content": content}], "model": "tiny"}
        assert post(url, body).status_code == 200
        found = ask(url, "tokenize", body).json()
        assert found["tokens"] == engine.requests[-1].prompt.token_ids
    closed = ask(url, "tokenize", {**HELLO, "add_generation_prompt": False}).json()
    assert closed["count"] < ask(url, "tokenize", HELLO).json()["count"]


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("tokenize", {}, 400, "prompt"),
        ("tokenize", {"prompt": 5}, 400, "prompt"),
        ("tokenize", {"prompt": "x", "model": "other"}, 404, "model"),
        ("tokenize", {"messages": []}, 400, "messages"),
        ("tokenize", {**HELLO, "model": "other"}, 404, "model"),
        ("detokenize", {}, 400, "tokens"),
        ("detokenize", {"tokens": [-1]}, 400, "tokens"),
        ("detokenize", {"tokens": [10**9]}, 400, "tokens"),
        ("detokenize", {"tokens": ["1"]}, 400, "tokens[0]"),
        ("detokenize", {"tokens": [], "model": "other"}, 404, "model"),
    ],
)
def test_bad_input_names_the_field(
    url: str, path: str, body: dict[str, Any], status: int, param: str
) -> None:
    answer = ask(url, path, body)
    assert answer.status_code == status and error_of(answer)["param"] == param


def test_bodies_are_parsed_as_strictly_as_elsewhere(url: str) -> None:
    for path in ("tokenize", "detokenize"):
        answer = httpx.post(
            f"{url}/{path}", content=b'{"a": NaN}', headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400 and error_of(answer)["code"] == "invalid_json"


def test_the_version_is_told(url: str) -> None:
    assert httpx.get(f"{url}/version").json()["version"]
