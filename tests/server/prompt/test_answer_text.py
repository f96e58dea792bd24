"""Detokenising and stop strings: the same text however the answer is divided."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from server.prompt.detokenizer import IncrementalDetokenizer
from server.prompt.stop_strings import StopStringMatcher

TEXTS = ["plain words", "é ü 你好 世界", "👩‍👩‍👧‍👦 family", "  spaces  \n\n lines", "a\u0301"]


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_checkpoint / "tokenizer.json"))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_whole_and_are_never_broken(tokenizer: Tokenizer, text: str) -> None:
    detokenizer = IncrementalDetokenizer(tokenizer)
    token_ids = tokenizer.encode(text, add_special_tokens=False).ids
    pieces = [detokenizer.add([token_id]) for token_id in token_ids]
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.finish() == tokenizer.decode(token_ids)


def test_bytes_that_stay_incomplete_show_at_the_end(tokenizer: Tokenizer) -> None:
    detokenizer = IncrementalDetokenizer(tokenizer)
    token_ids = tokenizer.encode("ok 👩", add_special_tokens=False).ids
    shown = detokenizer.add(token_ids[:-1])
    assert "\ufffd" not in shown
    assert shown + detokenizer.finish() == tokenizer.decode(token_ids[:-1])


def test_special_tokens_are_not_shown(tokenizer: Tokenizer) -> None:
    end = tokenizer.token_to_id("<|im_end|>")
    assert IncrementalDetokenizer(tokenizer).add([end]) == ""


def run(matcher: StopStringMatcher, pieces: list[str]) -> tuple[str, bool]:
    shown = ""
    for piece in pieces:
        text, is_stopped = matcher.feed(piece)
        shown += text
        if is_stopped:
            return shown, True
    return shown + matcher.flush(), False


def naive(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    for end in range(len(text) + 1):
        starts = [end - len(s) for s in stop if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(
    pieces=st.lists(st.text("abc", max_size=4), max_size=12),
    stop=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_stop_strings_equal_the_naive_search(pieces: list[str], stop: tuple[str, ...]) -> None:
    assert run(StopStringMatcher(stop), pieces) == naive("".join(pieces), stop)


def test_half_a_stop_string_is_never_shown() -> None:
    matcher = StopStringMatcher(("END",))
    assert matcher.feed("text E") == ("text ", False)
    assert matcher.feed("N") == ("", False)
    assert matcher.feed("x") == ("ENx", False)


def test_the_stop_string_can_be_included() -> None:
    assert StopStringMatcher(("b",), include=True).feed("abc") == ("ab", True)


def test_the_stop_string_that_was_found_is_told() -> None:
    matcher = StopStringMatcher(("xyz", "bc"))
    matcher.feed("ab")
    assert matcher.found == ""
    matcher.feed("cd")
    assert matcher.found == "bc"
