"""Structured outputs through a real worker: whatever the model would like to say."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pydantic
import pytest

from tests.server.api.client import HELLO, events, post

SCHEMA = {
    "type": "object",
    "properties": {
        "shape": {"enum": ["circle", "square"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "flat": {"type": "boolean"},
        "colours": {
            "type": "array",
            "items": {"enum": ["red", "blü"]},
            "minItems": 1,
            "maxItems": 3,
        },
    },
    "required": ["shape", "count", "flat", "colours"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA, "strict": True}}
ASK: dict[str, Any] = {**HELLO, "max_tokens": 200, "temperature": 1.5}


@pytest.fixture(scope="module")
def url(worker_url: str) -> str:
    return worker_url


def content(url: str, **fields: Any) -> str:
    choice = post(url, {**ASK, **fields}).json()["choices"][0]
    assert choice["finish_reason"] == "stop"
    text: str = choice["message"]["content"]
    return text


def check(text: str) -> None:
    found = json.loads(text)
    assert list(found) == ["shape", "count", "flat", "colours"]
    assert found["shape"] in ("circle", "square") and found["count"] in range(10)
    assert isinstance(found["flat"], bool)
    assert 1 <= len(found["colours"]) <= 3 and set(found["colours"]) <= {"red", "blü"}


@pytest.mark.parametrize("temperature", [0, 2])
def test_the_schema_is_obeyed(url: str, temperature: float) -> None:
    texts = {
        content(url, response_format=FORMAT, temperature=temperature, seed=i) for i in range(6)
    }
    for text in texts:
        check(text)
    assert (len(texts) > 1) == bool(temperature)


def test_streams_and_siblings_obey_too(url: str) -> None:
    body = post(url, {**ASK, "response_format": FORMAT, "n": 4, "seed": 1}).json()
    texts = [choice["message"]["content"] for choice in body["choices"]]
    for text in texts:
        check(text)
    assert len(set(texts)) > 1
    chunks = events(post(url, {**ASK, "response_format": FORMAT, "seed": 1, "stream": True}))
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == texts[0]


def test_neighbours_without_a_grammar_say_what_they_would(url: str) -> None:
    free = {"temperature": 0, "max_tokens": 40, "ignore_eos": True}
    alone = post(url, {**ASK, **free}).json()["choices"][0]["message"]["content"]
    with ThreadPoolExecutor(8) as pool:
        bound = [pool.submit(content, url, response_format=FORMAT, seed=i) for i in range(4)]
        others = [pool.submit(post, url, {**ASK, **free}) for _ in range(4)]
        for answer in bound:
            check(answer.result())
        for other in others:
            assert other.result().json()["choices"][0]["message"]["content"] == alone


@pytest.mark.parametrize(
    ("wish", "pattern"),
    [
        ({"regex": r"[a-c]{3}-[0-9]{2}"}, r"[a-c]{3}-[0-9]{2}"),
        ({"choice": ["red circle", 'a "quoted"\nline', "ü"]}, r'red circle|a "quoted"\nline|ü'),
        ({"grammar": 'start: ("ab" | "cd")~2 "!"'}, r"(ab|cd){2}!"),
        ({"grammar": 'root ::= ("ab" | "cd") "!"'}, r"(ab|cd)!"),
        ({"json": {"type": "integer", "minimum": 10, "maximum": 99}}, r"\d\d"),
        ({"json": '{"enum": [true, null]}'}, r"true|null"),
    ],
    ids=str,
)
def test_vllms_ways_to_say_it(url: str, wish: dict[str, Any], pattern: str) -> None:
    for seed in range(3):
        assert re.fullmatch(pattern, content(url, structured_outputs=wish, seed=seed))


def test_any_object_is_json_when_it_ends(url: str) -> None:
    body = {**ASK, "response_format": {"type": "json_object"}, "temperature": 0.0}
    choice = post(url, {**body, "logit_bias": {}}).json()["choices"][0]
    assert choice["message"]["content"].startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)


def test_a_grammar_bomb_is_refused_and_harms_nobody(url: str) -> None:
    bomb = {"structured_outputs": {"regex": "(a{1000}){1000}"}}
    answer = post(url, {**ASK, **bomb})
    assert answer.status_code == 400, answer.text
    check(content(url, response_format=FORMAT))


def test_openai_parses_a_pydantic_model(url: str) -> None:
    class Shape(pydantic.BaseModel):
        name: str = pydantic.Field(pattern="^[a-z]{3,8}$")
        sides: int = pydantic.Field(ge=0, le=9)

    messages: Any = HELLO["messages"]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = client.chat.completions.parse(
            model="tiny", messages=messages, response_format=Shape, max_tokens=80
        )
    assert answer.choices[0].message.parsed is not None
    assert 3 <= len(answer.choices[0].message.parsed.name) <= 8
