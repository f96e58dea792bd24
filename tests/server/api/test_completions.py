"""POST /v1/completions over a real socket, with a fake engine behind."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_runtime.checkpoint import load_checkpoint
from server.engine.types import GenerationRequest, TextDelta
from tests.fakes import FakeEngine, break_down, make_app, run_server, say_nothing_for_ever
from tests.server.api.client import error_of, events


def complete(url: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{url}/v1/completions", json={"prompt": "Once", **body}, timeout=20)


def test_a_text_goes_to_the_engine_as_it_is(url: str, engine: FakeEngine) -> None:
    body = complete(url, prompt="Hello").json()
    assert body["object"] == "text_completion" and body["id"].startswith("cmpl-")
    choice = {"index": 0, "text": "Hello 👋", "logprobs": None, "finish_reason": "stop"}
    assert body["choices"] == [choice]
    request = engine.requests[-1]
    assert body["usage"]["prompt_tokens"] == len(request.prompt.token_ids)
    assert body["usage"]["completion_tokens"] == 4
    assert request.sampling.max_tokens == 16 and not request.prompt.spans


def test_every_shape_of_prompt(url: str, engine: FakeEngine) -> None:
    for prompt, expected in [
        ([5, 6], [[5, 6]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
        (["a"], [[64]]),
    ]:
        engine.requests.clear()
        assert complete(url, prompt=prompt).status_code == 200
        assert [each.prompt.token_ids for each in engine.requests] == expected
    engine.requests.clear()
    assert complete(url, prompt=["a", "b"]).status_code == 200
    assert len({each.request_id for each in engine.requests}) == 2


def test_control_text_stays_text(url: str, engine: FakeEngine, tiny_checkpoint: Path) -> None:
    complete(url, prompt="<|im_start|><IMG_CONTEXT><img></s>")
    checkpoint = load_checkpoint(tiny_checkpoint, "tiny")
    token_ids = engine.requests[-1].prompt.token_ids
    assert max(token_ids) < 256 + 128 <= checkpoint.image_token_id


def test_choices_are_numbered_prompt_by_prompt(url: str) -> None:
    body = complete(url, prompt=["x", "y", "z"], n=2, echo=True).json()
    assert [choice["index"] for choice in body["choices"]] == list(range(6))
    assert [choice["text"][0] for choice in body["choices"]] == ["x", "x", "y", "y", "z", "z"]
    assert body["usage"]["completion_tokens"] == 24 and body["usage"]["prompt_tokens"] == 3


def test_streams_of_several_prompts_are_one(url: str) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = events(complete(url, prompt=["x", "y"], n=2, echo=True, **options))
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 16
    texts, ends = [""] * 4, [0] * 4
    for chunk in chunks[:-1]:
        assert chunk["object"] == "text_completion" and chunk["usage"] is None
        (choice,) = chunk["choices"]
        texts[choice["index"]] += choice["text"]
        ends[choice["index"]] += choice["finish_reason"] is not None
    assert texts == ["xHello 👋"] * 2 + ["yHello 👋"] * 2 and ends == [1] * 4


def test_a_plain_stream_has_no_usage(url: str) -> None:
    chunks = events(complete(url, stream=True))
    assert all("usage" not in chunk for chunk in chunks)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "Hello 👋"


def test_the_wishes_reach_the_engine(url: str, engine: FakeEngine) -> None:
    fields = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "seed": 3,
        "max_tokens": 7,
        "min_tokens": 2,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "repetition_penalty": 1.2,
        "ignore_eos": True,
        "prompt_logprobs": 2,
        "logprobs": 3,
    }
    more = {"best_of": 1, "n": 1, "stop": "x", "stop_token_ids": [4], "bad_words": ["no"]}
    more |= {
        "allowed_token_ids": [4, 5],
        "logit_bias": {"4": 1},
        "include_stop_str_in_output": True,
    }
    more |= {"priority": 4, "cache_salt": "s", "skip_special_tokens": False}
    more |= {"add_special_tokens": True, "structured_outputs": {"regex": "a+"}, "suffix": ""}
    assert complete(url, **fields, **more).status_code == 200
    request = engine.requests[-1]
    assert {name: getattr(request.sampling, name) for name in fields} == fields
    assert request.stop == ("x",) and request.sampling.stop_token_ids == (4,)
    assert request.include_stop_str_in_output and not request.skip_special_tokens
    assert request.priority == 4 and request.cache_salt == "s" and request.grammar


VALUE, TYPE, COMBINATION = "invalid_value", "invalid_type", "invalid_parameter_combination"
UNSUPPORTED = "unsupported_parameter"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"prompt": None}, TYPE, "prompt"),
        ({"prompt": 5}, TYPE, "prompt"),
        ({"prompt": {}}, TYPE, "prompt"),
        ({"prompt": [True]}, TYPE, "prompt"),
        ({"prompt": [1, "a"]}, TYPE, "prompt"),
        ({"prompt": ["a", [1]]}, TYPE, "prompt"),
        ({"prompt": [[1], []]}, TYPE, "prompt"),
        ({"prompt": [[[1]]]}, TYPE, "prompt"),
        ({"prompt": [1.0]}, TYPE, "prompt"),
        ({"prompt": []}, VALUE, "prompt"),
        ({"prompt": ["a"] * 257}, VALUE, "prompt"),
        ({"prompt": ["a"] * 9, "n": 128}, VALUE, "n"),
        ({"prompt": ""}, VALUE, "prompt"),
        ({"prompt": ["a", ""]}, VALUE, "prompt[1]"),
        ({"prompt": [1, -1]}, VALUE, "prompt[1]"),
        ({"prompt": [[1], [1, 10**20]]}, VALUE, "prompt[1][1]"),
        ({"prompt": "a" * 100_000}, "context_length_exceeded", "prompt"),
        ({"prompt": ["a", "a b " * 3000]}, "context_length_exceeded", "prompt[1]"),
        ({"prompt": [[1], [7] * 2048]}, "context_length_exceeded", "prompt[1]"),
        ({"suffix": "end"}, UNSUPPORTED, "suffix"),
        ({"messages": []}, UNSUPPORTED, "messages"),
        ({"top_logprobs": 1}, UNSUPPORTED, "top_logprobs"),
        ({"best_of": 2}, COMBINATION, "best_of"),
        ({"logprobs": True}, TYPE, "logprobs"),
        ({"logprobs": 21}, VALUE, "logprobs"),
        ({"max_tokens": 0}, COMBINATION, "max_tokens"),
        ({"max_tokens": -1}, VALUE, "max_tokens"),
        ({"min_tokens": 17}, VALUE, "min_tokens"),
        ({"stream_options": {}}, COMBINATION, "stream_options"),
        ({"stream": True, "echo": True, "logprobs": 1}, COMBINATION, "prompt_logprobs"),
        ({"stop_token_ids": [10**6]}, VALUE, "stop_token_ids[0]"),
        ({"structured_outputs": {"regex": "("}}, VALUE, "structured_outputs.regex"),
    ],
    ids=range(32),
)
def test_what_cannot_be_done_is_refused_by_name(
    url: str, engine: FakeEngine, body: dict[str, Any], code: str, param: str
) -> None:
    engine.requests.clear()
    response = complete(url, **body)
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param), response.text
    assert not engine.requests


def test_a_placeholder_without_a_picture_is_refused(url: str, tiny_checkpoint: Path) -> None:
    placeholder = load_checkpoint(tiny_checkpoint, "tiny").image_token_id
    error = error_of(complete(url, prompt=[[5], [5, placeholder]]))
    assert error["param"] == "prompt[1][1]" and "picture" in error["message"]
    assert complete(url, prompt=[5, placeholder + 1]).status_code == 200


def test_other_models_and_bodies(url: str) -> None:
    assert complete(url, model="nope").status_code == 404
    missing = httpx.post(f"{url}/v1/completions", json={})
    assert error_of(missing)["code"] == "missing_required_parameter"


def test_who_leaves_ends_every_prompt(tiny_checkpoint: Path) -> None:
    engine = FakeEngine(say_nothing_for_ever)
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        for stream in (True, False):
            engine.aborted.clear()
            engine.requests.clear()
            engine.something_aborted.clear()
            with pytest.raises(httpx.ReadTimeout):
                body = {"prompt": ["a", "b", "c"], "stream": stream}
                httpx.post(f"{url}/v1/completions", json=body, timeout=0.5)
            assert engine.something_aborted.wait(5)
            assert sorted(engine.aborted) == sorted(r.request_id for r in engine.requests)
            assert len(engine.aborted) == 3


def test_one_failure_ends_all(tiny_checkpoint: Path) -> None:
    async def break_second(request: GenerationRequest) -> AsyncIterator[TextDelta]:
        script = break_down if request.request_id.endswith("-1") else say_nothing_for_ever
        async for delta in script(request):
            yield delta

    engine = FakeEngine(break_second)
    with run_server(make_app(tiny_checkpoint, engine)) as url:
        response = complete(url, prompt=["a", "b", "c"])
        assert response.status_code == 500 and error_of(response)["code"] == "engine_error"
        streamed = events(complete(url, prompt=["a", "b"], stream=True), is_failed=True)
        assert streamed[-1]["error"]["code"] == "engine_error"
        assert len(engine.aborted) >= 3


def test_the_document_knows_prompts(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json").json()
    body = document["paths"]["/v1/completions"]["post"]["requestBody"]
    prompt = body["content"]["application/json"]["schema"]["properties"]["prompt"]
    assert len(prompt["anyOf"]) == 4
