"""Reading calls out of growing text: the same pieces, however the text is cut."""

import random

import pytest

from server.api.tool_calls import (
    CallArguments,
    CallBegin,
    CallEnd,
    Piece,
    TextPiece,
    ToolCallReader,
)

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "}{\\"", "b": [1, {"c": 2}]}}\n</tool_call>'
ARGUMENTS = '{"a": "}{\\"", "b": [1, {"c": 2}]}'


def read(parts: list[str]) -> list[Piece]:
    reader = ToolCallReader()
    return [piece for part in parts for piece in reader.feed(part)] + reader.finish()


def summed(pieces: list[Piece]) -> tuple[str, list[tuple[str, str]], int]:
    """The text, the calls, and how many of them ended."""
    text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    calls = [
        (piece.name, "".join(p.text for p in pieces if _is_of(p, piece.index)))
        for piece in pieces
        if isinstance(piece, CallBegin)
    ]
    return text, calls, sum(isinstance(piece, CallEnd) for piece in pieces)


def _is_of(piece: Piece, index: int) -> bool:
    return isinstance(piece, CallArguments) and piece.index == index


CASES = {
    "text": ("Just text. ", ("Just text. ", [], 0)),
    "one": (CALL, ("", [("f", ARGUMENTS)], 1)),
    "two": (f"Hm.\n{CALL}\n{CALL}\n", ("Hm.", [("f", ARGUMENTS)] * 2, 2)),
    "text between": (f"a {CALL} b", ("a b", [("f", ARGUMENTS)], 1)),
    "other order": (
        '<tool_call>{"arguments": {"x": 1}, "name": "g"}</tool_call>',
        ("", [("g", '{"x": 1}')], 1),
    ),
    "no arguments": ('<tool_call>{"name": "g"}</tool_call>', ("", [("g", "{}")], 1)),
    "no JSON": ("<tool_call>oops</tool_call>!", ("<tool_call>oops</tool_call>!", [], 0)),
    "no name": ("<tool_call>{}</tool_call>", ("<tool_call>{}</tool_call>", [], 0)),
    "cut in the mark": ("a <tool_ca", ("a <tool_ca", [], 0)),
    "cut in the head": ('<tool_call>{"na', ('<tool_call>{"na', [], 0)),
    "cut in the arguments": (CALL[:60], ("", [("f", ARGUMENTS[: 60 - CALL.index('{"a')])], 1)),
    "a cut end mark": (CALL[:-4], ("", [("f", ARGUMENTS)], 1)),
    "like a mark": ("1 < 2 <tool> <tool_cal>", ("1 < 2 <tool> <tool_cal>", [], 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_pieces_do_not_depend_on_how_the_text_comes(name: str) -> None:
    text, expected = CASES[name]
    assert summed(read([text])) == expected
    assert summed(read(list(text))) == expected
    chance = random.Random(name)
    for _ in range(50):
        cuts = sorted(chance.randrange(len(text) + 1) for _ in range(4))
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert summed(read(parts)) == expected, parts


def test_arguments_go_out_as_they_come() -> None:
    reader = ToolCallReader()
    pieces = [reader.feed(char) for char in CALL]
    with_arguments = sum(
        any(isinstance(piece, CallArguments) for piece in batch) for batch in pieces
    )
    assert with_arguments == len(ARGUMENTS)
