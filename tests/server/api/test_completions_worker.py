"""Text completions through a real worker: equal to transformers, log-probabilities, openai."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from transformers import InternVLForConditionalGeneration

from model_runtime.checkpoint import load_checkpoint
from server.prompt.builder import PromptBuilder
from tests.server.api.client import error_of, events

TEXTS = ["The quick brown fox", "What is in the image?", "12345"]
GREEDY: dict[str, Any] = {"temperature": 0, "ignore_eos": True, "max_tokens": 12}


@pytest.fixture(scope="module")
def url(worker_url: str) -> str:
    return worker_url


@pytest.fixture(scope="module")
def prompts(tiny_checkpoint: Path) -> PromptBuilder:
    return PromptBuilder(load_checkpoint(tiny_checkpoint, "tiny"), 2048)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> InternVLForConditionalGeneration:
    return InternVLForConditionalGeneration.from_pretrained(
        tiny_checkpoint, dtype=torch.float32
    ).eval()


def complete(url: str, **body: Any) -> dict[str, Any]:
    response = httpx.post(f"{url}/v1/completions", json={**GREEDY, **body}, timeout=60)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


async def test_greedy_equals_transformers(
    url: str, prompts: PromptBuilder, reference: InternVLForConditionalGeneration
) -> None:
    body = complete(url, prompt=TEXTS, return_token_ids=True)
    for text, choice in zip(TEXTS, body["choices"], strict=True):
        token_ids = await prompts.encode(text)
        assert choice["prompt_token_ids"] == token_ids
        ids = torch.tensor([token_ids])
        expected = reference.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            min_new_tokens=12,
            do_sample=False,
        )[0, len(token_ids) :].tolist()
        assert choice["token_ids"] == expected
    alone = complete(url, prompt=await prompts.encode(TEXTS[1]))
    assert alone["choices"][0]["text"] == body["choices"][1]["text"]


async def test_an_echo_has_the_models_own_probabilities(
    url: str, prompts: PromptBuilder, reference: InternVLForConditionalGeneration
) -> None:
    (choice,) = complete(url, prompt=TEXTS[0], echo=True, logprobs=2, max_tokens=0)["choices"]
    assert choice["text"] == TEXTS[0] and choice["finish_reason"] == "length"
    scores = choice["logprobs"]
    assert "".join(scores["tokens"]) == TEXTS[0]
    token_ids = torch.tensor([await prompts.encode(TEXTS[0])])
    with torch.no_grad():
        logits = reference(input_ids=token_ids).logits[0, :-1]
    own = logits.log_softmax(-1).gather(1, token_ids[0, 1:, None])[:, 0]
    assert scores["token_logprobs"][0] is None and scores["top_logprobs"][0] is None
    assert torch.allclose(torch.tensor(scores["token_logprobs"][1:]), own, atol=1e-4)
    assert all(2 <= len(top) <= 3 for top in scores["top_logprobs"][1:])


def test_a_prompt_alone_generates_nothing(url: str) -> None:
    body = complete(url, prompt=TEXTS[:2], n=2, echo=True, max_tokens=0, temperature=1)
    assert body["usage"]["completion_tokens"] == 0
    assert [choice["text"] for choice in body["choices"]] == [t for t in TEXTS[:2] for _ in "ab"]
    options = {"prompt": TEXTS[0], "echo": True, "max_tokens": 0, "stream": True}
    chunks = events(httpx.post(f"{url}/v1/completions", json=options, timeout=60))
    assert [chunk["choices"][0]["text"] for chunk in chunks] == [TEXTS[0]]


def test_offsets_point_into_the_text(url: str) -> None:
    wish = {"prompt": "naïve 👋 été", "echo": True, "logprobs": 0, "n": 2, "temperature": 1}
    body = complete(url, **wish, seed=3)
    for choice in body["choices"]:
        scores = choice["logprobs"]
        assert len({len(column) for column in scores.values()}) == 1
        for token, offset in zip(scores["tokens"], scores["text_offset"], strict=True):
            if not token.startswith("bytes:"):
                assert choice["text"][offset:].startswith(token)
        assert scores["text_offset"][0] == 0
    assert body["choices"][0]["text"] != body["choices"][1]["text"]


def test_streamed_logprobs_are_those_of_the_whole(url: str) -> None:
    wish = {"prompt": TEXTS[0], "logprobs": 3, "return_token_ids": True}
    (whole,) = complete(url, **wish)["choices"]
    body = {**GREEDY, **wish, "stream": True}
    chunks = events(httpx.post(f"{url}/v1/completions", json=body, timeout=60))
    parts = [chunk["choices"][0] for chunk in chunks]
    assert parts[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    assert [i for part in parts for i in part["token_ids"]] == whole["token_ids"]
    for name, column in whole["logprobs"].items():
        assert [each for part in parts for each in part["logprobs"][name]] == column
        assert len(column) == 12


def test_prompt_logprobs_are_vllms(url: str) -> None:
    wish = {"prompt": TEXTS[:2], "prompt_logprobs": 1, "logprobs": 4, "echo": True}
    for choice in complete(url, **wish)["choices"]:
        scores = choice["prompt_logprobs"]
        assert scores[0] is None and all(1 <= len(score) <= 2 for score in scores[1:])


def test_structured_outputs_hold(url: str) -> None:
    body = complete(url, prompt=TEXTS, structured_outputs={"choice": ["yes", "no"]}, n=2)
    assert {choice["text"] for choice in body["choices"]} <= {"yes", "no"}


def test_the_cached_tokens_of_all_prompts_count(url: str) -> None:
    long = [text * 20 for text in TEXTS[:2]]
    complete(url, prompt=long)
    usage = complete(url, prompt=long)["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    assert usage["prompt_tokens"] - 2 * 17 <= cached < usage["prompt_tokens"]


def test_openai_client(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        wish: dict[str, Any] = {"model": "tiny", "prompt": TEXTS, "max_tokens": 6, "temperature": 0}
        answer = client.completions.create(**wish, logprobs=2, n=1)
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        scores = answer.choices[0].logprobs
        assert scores is not None and scores.tokens and scores.text_offset
        texts = [""] * 3
        options = {"include_usage": True}
        stream = client.completions.create(**wish, stream=True, stream_options=options)
        for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == [choice.text for choice in answer.choices]
        assert chunk.usage is not None and chunk.usage.completion_tokens == 18


def test_rules_that_allow_nothing_are_an_error(url: str) -> None:
    only = {"allowed_token_ids": [40], "logit_bias": {"40": -100}}
    word = complete(url, prompt="a", allowed_token_ids=[40])["choices"][0]["text"][:1]
    body = {"prompt": ["a", "b"], **only, "bad_words": [word]}
    response = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
    assert response.status_code == 400 and "no token" in error_of(response)["message"]
