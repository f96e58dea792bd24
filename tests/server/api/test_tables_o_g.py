"""Tables O and G by row: what a request's fields may be, against a real worker."""

import asyncio
import itertools
import random
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_runtime.checkpoint import load_checkpoint
from server.prompt.tokens import PromptTokenizer
from tests.fakes import FakeMedia
from tests.server.api import corpus
from tests.server.api.client import HELLO, error_of, post
from tests.server.api.corpus import VALUE, part, user
from tests.server.api.tables_o_g import CONTEXT, OK, ROWS, SCHEMA


@pytest.mark.parametrize(
    ("fields", "expected"),
    [row[1:] for row in ROWS],
    ids=[f"{row[0]}-{number}" for number, row in enumerate(ROWS)],
)
def test_a_row(worker_url: str, fields: dict[str, Any], expected: str) -> None:
    body = HELLO | {"max_tokens": 8} | fields
    started = time.monotonic()
    answer = post(worker_url, body)
    assert time.monotonic() - started < 5
    if expected == OK:
        assert answer.status_code == 200, answer.text
    else:
        assert answer.status_code in (400, 413), answer.text[:300]
        assert error_of(answer)["code"] == expected, answer.text


def said(url: str, **fields: Any) -> dict[str, Any]:
    answer = post(url, HELLO | {"max_tokens": 8, "temperature": 0} | fields)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def test_o11_a_bare_string_is_a_url(url: str, media: FakeMedia) -> None:
    asked = part(type="image_url", image_url="http://h/a.png")
    assert post(url, HELLO | asked).status_code == 200
    assert media.requests[-1].url == "http://h/a.png"


def test_o32_text_fits_but_not_with_its_pictures(url: str, media: FakeMedia) -> None:
    """Refused from what their headers say."""
    pictures = [{"type": "image_url", "image_url": {"url": "http://h/a.png"}}] * 8
    one, two = (
        post(url, HELLO | user("many words " * count)).json()["usage"]["prompt_tokens"]
        for count in (1, 2)
    )
    text = {"type": "text", "text": "many words " * ((2048 - 60) // (two - one))}
    assert post(url, HELLO | user([text])).status_code == 200
    answer = post(url, HELLO | user([text, *pictures, *pictures]))
    assert answer.status_code == 400 and error_of(answer)["code"] == CONTEXT


def test_o35_models_have_no_paths(url: str) -> None:
    for path in ("../../etc/passwd", "none", "%2e%2e/x"):
        answer = httpx.get(f"{url}/v1/models/{path}")
        assert answer.status_code == 404
        assert error_of(answer)["code"] in ("unknown_url", "model_not_found")


def test_g03_eight_answers_at_once(worker_url: str) -> None:
    answer = post(worker_url, HELLO | {"n": 8, "max_tokens": 200, "ignore_eos": True})
    assert len(answer.json()["choices"]) == 8


def test_g11_what_is_forbidden_has_a_finite_logprob(worker_url: str) -> None:
    fields = {"logprobs": True, "top_logprobs": 20, "top_k": 1, "allowed_token_ids": [40, 41]}
    content = said(worker_url, temperature=1.0, **fields)["logprobs"]["content"]
    found = [other["logprob"] for token in content for other in token["top_logprobs"]]
    assert found and all(-9999.0 <= value <= 0 for value in found)


def test_g12_no_end_but_the_limit(worker_url: str) -> None:
    answer = post(worker_url, HELLO | {"ignore_eos": True, "max_tokens": 10**6})
    choice, usage = answer.json()["choices"][0], answer.json()["usage"]
    assert choice["finish_reason"] == "length" and usage["total_tokens"] == 2048


def test_g24_to_g26_biases_however_large(worker_url: str, tiny_checkpoint: Path) -> None:
    """All tokens forbidden alike; the end wanted; control tokens wanted."""
    special = load_checkpoint(tiny_checkpoint, "tiny").special_tokens
    tokenizer = PromptTokenizer(tiny_checkpoint, special)
    end, context = (tokenizer.control_id(name) for name in ("<|im_end|>", "<IMG_CONTEXT>"))
    all_less = {str(token_id): -100 for token_id in range(300)}
    assert said(worker_url, logit_bias=all_less)["finish_reason"] in ("length", "stop")
    assert said(worker_url, logit_bias={str(end): 100})["finish_reason"] == "stop"
    shown = said(worker_url, logit_bias={str(context): 100})["message"]["content"]
    assert "IMG_CONTEXT" not in shown
    assert said(worker_url)["message"]["content"], "and the next one is served"


OPTIONS: dict[str, list[Any]] = {
    "temperature": [0, 0.7, 2],
    "top_p": [0.1, 1],
    "top_k": [-1, 5],
    "min_p": [0, 0.5],
    "presence_penalty": [-2, 2],
    "frequency_penalty": [-2, 2],
    "repetition_penalty": [0.5, 1.5],
    "logprobs": [None, True],
    "seed": [None, 3],
    "n": [1, 3],
    "stop": [None, ["e", "zz"]],
    "min_tokens": [0, 4],
    "ignore_eos": [False, True],
    "logit_bias": [None, {"40": 50}],
}


def pairs() -> list[dict[str, Any]]:
    """Requests in which each value meets each value of the other options."""
    return [
        {one: first, other: second}
        for one, other in itertools.combinations(OPTIONS, 2)
        for first, second in itertools.product(OPTIONS[one], OPTIONS[other])
    ]


async def ask_together(url: str, bodies: list[dict[str, Any]]) -> list[Any]:
    gate = asyncio.Semaphore(64)
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def ask(body: dict[str, Any]) -> Any:
            async with gate:
                answer = await client.post("/v1/chat/completions", json=HELLO | body)
            assert answer.status_code == 200, (body, answer.text)
            return [choice["message"]["content"] for choice in answer.json()["choices"]]

        return await asyncio.gather(*map(ask, bodies))


async def test_g50_every_pair_of_options_goes_together(worker_url: str) -> None:
    bodies = [{"max_tokens": 6, **fields} for fields in pairs()]
    assert len(bodies) > 350
    assert all(await ask_together(worker_url, bodies))


async def test_g51_sixty_four_kinds_in_a_batch_and_each_as_alone(worker_url: str) -> None:
    chance = random.Random(4)
    bodies = [
        {name: chance.choice(values) for name, values in OPTIONS.items()}
        | {"max_tokens": 6, "seed": number}
        for number in range(64)
    ]
    together = await ask_together(worker_url, bodies)
    alone = [(await ask_together(worker_url, [body]))[0] for body in bodies]
    assert together == alone


def test_g63_g64_many_schemas_and_bad_ones_between(worker_url: str) -> None:
    for number in range(120):
        good = SCHEMA({"type": "string", "maxLength": number % 4, "title": f"{number}"})
        assert post(worker_url, HELLO | good | {"max_tokens": 20}).status_code == 200
        if number % 10 == 0:
            bad = post(worker_url, HELLO | SCHEMA({"type": f"t{number}"}))
            assert error_of(bad)["code"] == VALUE


ELSEWHERE = {
    "O02": "corpus",
    "G27": "corpus",
    "G30": "corpus",
    "G31": "corpus",
    "G32": "corpus",
    "G33": "server/prompt/test_answer_text.py::test_stop_strings_equal_the_naive_search",
    "G34": "server/prompt/test_answer_text.py::test_half_a_stop_string_is_never_shown",
    "G40": "server/api/test_tables_o_g.py::test_o32_text_fits_but_not_with_its_pictures",
    "G41": "server/api/test_tables_o_g.py::test_o32_text_fits_but_not_with_its_pictures",
    "G42": "server/api/test_bad_input.py::test_an_over_long_prompt_names_both_numbers",
    "G44": "server/engine/test_deadlines.py::test_in_a_long_step",
}


def test_every_row_has_a_test() -> None:
    numbers = {"O": [*range(1, 36), *range(40, 50)]}
    numbers["G"] = [*range(1, 29), *range(30, 37), *range(40, 45), 50, 51, *range(60, 67)]
    rows = {f"{table}{number:02}" for table, found in numbers.items() for number in found}
    named = {row[0] for row in ROWS} | ELSEWHERE.keys()
    every = [*corpus.JSON_ROWS, *corpus.MESSAGE_ROWS, *corpus.FIELD_ROWS]
    named |= {row[0][:3] for row in every if re.match(r"[OG]\d\d", row[0])}
    source = Path(__file__).read_text(encoding="utf-8")
    names = re.findall(r"def (test_[og]\w+)", source)
    named |= {row.upper() for name in names for row in re.findall(r"[og]\d\d", name)} | {"G25"}
    assert rows <= named, rows - named
    for place in set(ELSEWHERE.values()) - {"corpus"}:
        file, _, name = place.partition("::")
        text = (Path(__file__).parents[2] / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text, place
