"""Tokens as bytes: what log-probabilities show, and what bad words are made of."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_runtime.checkpoint import load_checkpoint
from server.prompt.builder import PromptBuilder

DEMO = Path("model_runtime/demo/checkpoint")


@pytest.fixture(scope="module", params=["tiny", "demo"])
def prompts(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> PromptBuilder:
    folder = tiny_checkpoint if request.param == "tiny" else DEMO
    return PromptBuilder(load_checkpoint(folder, "m"), 2048)


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_the_bytes_of_the_tokens_are_those_of_the_text(prompts: PromptBuilder, text: str) -> None:
    token_ids = prompts._tokens.encode(text)
    normal = unicodedata.normalize("NFC", text)  # as the tokenizer itself does
    assert b"".join(map(prompts.token_bytes, token_ids)) == normal.encode()


def test_control_tokens_show_their_names(prompts: PromptBuilder) -> None:
    assert prompts.token_bytes(prompts._tokens.control_id("<|im_end|>")) == b"<|im_end|>"
    assert prompts.token_bytes(10**8) == b""


def test_a_bad_word_is_found_alone_and_after_a_space(prompts: PromptBuilder) -> None:
    for ids in prompts.bad_word_ids("circle"):
        text = b"".join(map(prompts.token_bytes, ids))
        assert text.strip() == b"circle"
    assert all(prompts.bad_word_ids(word) for word in (" ", "x", "你好", "a b"))
