"""Several answers and log-probabilities, JSON and streamed, through a real worker and openai."""

from pathlib import Path
from typing import Any

import openai
import pytest

from model_runtime.checkpoint import load_checkpoint
from server.prompt.builder import PromptBuilder
from tests.server.api.client import HELLO, events, post


@pytest.fixture(scope="module")
def url(worker_url: str) -> str:
    return worker_url


ASK: dict[str, Any] = {**HELLO, "max_tokens": 8, "ignore_eos": True, "seed": 5, "temperature": 1.5}


def streamed(url: str, **fields: Any) -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = events(post(url, {**ASK, **fields, "stream": True}))
    return chunks


def test_n_answers_are_choices_in_order(url: str) -> None:
    body = post(url, {**ASK, "n": 3}).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert len(set(texts)) == 3
    assert {choice["finish_reason"] for choice in body["choices"]} == {"length"}
    assert body["usage"]["completion_tokens"] == 24
    assert body["usage"]["prompt_tokens"] == post(url, ASK).json()["usage"]["prompt_tokens"]
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] < body["usage"]["prompt_tokens"]
    assert texts == joined(streamed(url, n=3), 3)


def joined(chunks: list[dict[str, Any]], n: int) -> list[str]:
    """Each choice's text; each has one role, first, and one end."""
    texts = [""] * n
    roles, ends = [0] * n, [0] * n
    for chunk in chunks:
        for choice in chunk["choices"]:
            index = choice["index"]
            roles[index] += "role" in choice["delta"]
            ends[index] += choice["finish_reason"] is not None
            assert roles[index] == 1
            texts[index] += choice["delta"].get("content", "")
    assert roles == ends == [1] * n
    return texts


def test_a_stop_string_ends_one_answer_and_not_its_siblings(url: str) -> None:
    wish = {**ASK, "n": 3, "max_tokens": 24}
    plain = [c["message"]["content"] for c in post(url, wish).json()["choices"]]
    stop = next(
        part
        for start in range(len(plain[1]) - 3)
        if (part := plain[1][start : start + 3]) not in plain[0] + "\0" + plain[2]
    )
    body = post(url, {**wish, "stop": stop}).json()
    texts = [choice["message"]["content"] for choice in body["choices"]]
    assert texts == [plain[0], plain[1][: plain[1].index(stop)], plain[2]]
    assert [c["finish_reason"] for c in body["choices"]] == ["length", "stop", "length"]
    assert texts == joined(streamed(url, n=3, max_tokens=24, stop=stop), 3)
    shown = post(url, {**wish, "stop": stop, "include_stop_str_in_output": True}).json()
    assert shown["choices"][1]["message"]["content"] == texts[1] + stop
    assert post(url, {**ASK, "n": 1}).status_code == 200  # nothing was left behind


@pytest.mark.parametrize("num_top", [0, 4])
def test_logprobs_fit_the_text(url: str, num_top: int) -> None:
    wish = {**ASK, "logprobs": True, "top_logprobs": num_top}
    choice = post(url, wish).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert len(content) == 8
    raw = b"".join(bytes(entry["bytes"]) for entry in content)
    assert raw.decode("utf-8", "replace") == choice["message"]["content"]
    for entry in content:
        assert entry["logprob"] <= 0 and len(entry["top_logprobs"]) == num_top
        values = [top["logprob"] for top in entry["top_logprobs"]]
        assert values == sorted(values, reverse=True)
    chunks = streamed(url, logprobs=True, top_logprobs=num_top)
    parts = [c["choices"][0]["logprobs"] for c in chunks if c["choices"][0]["logprobs"]]
    assert [entry for part in parts for entry in part["content"]] == content


def test_prompt_logprobs_cover_the_prompt(url: str) -> None:
    body = post(url, {**ASK, "prompt_logprobs": 2}).json()
    scores = body["prompt_logprobs"]
    assert len(scores) == body["usage"]["prompt_tokens"] and scores[0] is None
    for score in scores[1:]:
        assert 2 <= len(score) <= 3
        assert all(each["logprob"] <= 0 and each["rank"] >= 1 for each in score.values())


def test_biases_and_bans_shape_the_answer(url: str) -> None:
    forced = post(url, {**ASK, "allowed_token_ids": [40], "logprobs": True}).json()
    (token,) = {entry["token"] for entry in forced["choices"][0]["logprobs"]["content"]}
    assert forced["choices"][0]["message"]["content"] == token * 8
    biased = post(url, {**ASK, "temperature": 0, "logit_bias": {"40": 100}}).json()
    assert biased["choices"][0]["message"]["content"] == token * 8
    banned = post(url, {**ASK, "logit_bias": {"40": 100}, "bad_words": [token]}).json()
    assert token not in banned["choices"][0]["message"]["content"]


def test_rules_that_allow_nothing_are_an_error_not_a_hang(url: str) -> None:
    only = {**ASK, "allowed_token_ids": [40]}
    word = post(url, only).json()["choices"][0]["message"]["content"][:1]
    answer = post(url, {**only, "bad_words": [word]})
    assert answer.status_code == 400 and "no token" in answer.json()["error"]["message"]


def test_openai_reads_choices_and_logprobs(url: str) -> None:
    messages: Any = HELLO["messages"]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = client.chat.completions.create(
            model="tiny",
            messages=messages,
            n=2,
            logprobs=True,
            top_logprobs=2,
            max_tokens=4,
            logit_bias={"40": 2},
        )
    assert len(answer.choices) == 2
    for choice in answer.choices:
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert len(choice.logprobs.content[0].top_logprobs) == 2


def test_usage_with_every_chunk(url: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = streamed(url, stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk["usage"]]
    assert counts == sorted(counts) and counts[-1] == 8
    assert all(chunk["usage"] for chunk in chunks[1:])


def test_token_ids_come_when_asked(url: str) -> None:
    body = post(url, {**ASK, "return_token_ids": True, "n": 2}).json()
    assert len(body["prompt_token_ids"]) == body["usage"]["prompt_tokens"]
    ids = [choice["token_ids"] for choice in body["choices"]]
    assert [len(each) for each in ids] == [8, 8]
    chunks = streamed(url, return_token_ids=True)
    assert [i for c in chunks for i in c["choices"][0]["token_ids"]] == ids[0]
    assert "token_ids" not in post(url, ASK).json()["choices"][0]


def test_special_tokens_show_when_asked(url: str, tiny_checkpoint: Path) -> None:
    prompts = PromptBuilder(load_checkpoint(tiny_checkpoint, "tiny"), 2048)
    end = prompts._tokens.control_id("<|im_end|>")
    only = {**ASK, "allowed_token_ids": [end]}
    texts = [
        post(url, {**only, "skip_special_tokens": skip}).json()["choices"][0]["message"]["content"]
        for skip in (True, False)
    ]
    assert texts == ["", "<|im_end|>" * 8]


def test_a_message_begun_is_continued(url: str) -> None:
    wish = {**ASK, "temperature": 0, "max_tokens": 12, "return_token_ids": True}
    whole = post(url, wish).json()
    said = whole["choices"][0]["message"]["content"]
    begun = [*HELLO["messages"], {"role": "assistant", "content": said}]
    rest = post(url, {**wish, "messages": begun, "continue_final_message": True}).json()
    expected = whole["prompt_token_ids"] + whole["choices"][0]["token_ids"]
    if rest["prompt_token_ids"] == expected:  # the text may be encoded in other pieces
        assert rest["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    prefix = whole["prompt_token_ids"]
    assert rest["prompt_token_ids"][: len(prefix)] == prefix
    closed = post(url, {**wish, "messages": begun, "add_generation_prompt": False}).json()
    assert len(closed["prompt_token_ids"]) > len(rest["prompt_token_ids"])
