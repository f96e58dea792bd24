"""Tool calls in an answer's text: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

Read while the text grows: arguments go out as they come. What begins like a call and is none
stays text.
"""

import json
import re
from dataclasses import dataclass

from server.prompt.tools import CALL_BEGIN, CALL_END


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    index: int  # among the answer's calls
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of the arguments' JSON."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    index: int


Piece = TextPiece | CallBegin | CallArguments | CallEnd
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*(?=\{)')


class ToolCallReader:
    """Of one answer. States: in text; in a call's head; in its arguments; behind them."""

    def __init__(self) -> None:
        self._buffer = ""  # not yet told
        self._state = self._in_text
        self._scan = _ObjectScan()
        self.num_calls = 0

    def feed(self, text: str) -> list[Piece]:
        """What is certain by now."""
        self._buffer += text
        return self._advance(is_last=False)

    def finish(self) -> list[Piece]:
        """The rest, after the last text."""
        return self._advance(is_last=True)

    def _advance(self, is_last: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while True:
            state, length = self._state, len(self._buffer)
            pieces += state(is_last)
            if self._state == state and len(self._buffer) == length:
                return pieces

    def _in_text(self, is_last: bool) -> list[Piece]:
        begin = self._buffer.find(CALL_BEGIN)
        if begin >= 0:
            text = self._take(begin)
            self._take(len(CALL_BEGIN))
            self._state = self._in_head
            # White space between the text and its calls belongs to neither.
            return _text(text.rstrip())
        if self.num_calls and not is_last and not self._buffer.strip():
            return []
        held = 0 if is_last else _held_back(self._buffer)
        text = self._take(len(self._buffer) - held)
        return _text(text) if text.strip() or not self.num_calls else []

    def _in_head(self, is_last: bool) -> list[Piece]:
        match = _HEAD.match(self._buffer)
        if match and (name := _name(match[1])):
            self._take(match.end())
            self._state, self._scan = self._in_arguments, _ObjectScan()
            self.num_calls += 1
            return [CallBegin(self.num_calls - 1, name)]
        end = self._buffer.find(CALL_END)
        if end >= 0:
            whole = self._take(end)
            self._take(len(CALL_END))
            self._state = self._in_text
            return self._whole_call(whole, CALL_END)
        if not is_last:
            return []
        self._state = self._in_text
        return self._whole_call(self._take(len(self._buffer)), "")

    def _whole_call(self, body: str, end: str) -> list[Piece]:
        """A call whose fields stand in another order, or text after all."""
        try:
            call = json.loads(body)
            name, arguments = call["name"], json.dumps(call.get("arguments", {}))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return _text(f"{CALL_BEGIN}{body}{end}")
        if not isinstance(name, str):
            return _text(f"{CALL_BEGIN}{body}{end}")
        index = self.num_calls
        self.num_calls += 1
        return [CallBegin(index, name), CallArguments(index, arguments), CallEnd(index)]

    def _in_arguments(self, is_last: bool) -> list[Piece]:
        index = self.num_calls - 1
        text = self._take(self._scan.length_within(self._buffer))
        pieces: list[Piece] = [CallArguments(index, text)] if text else []
        if self._scan.is_over or is_last:
            self._state = self._behind
            pieces.append(CallEnd(index))
        return pieces

    def _behind(self, is_last: bool) -> list[Piece]:
        """The brace that closes the call, and its end mark."""
        end = self._buffer.find(CALL_END)
        if end >= 0:
            self._take(end + len(CALL_END))
            self._state = self._in_text
        elif is_last:
            self._take(len(self._buffer))
        return []

    def _take(self, length: int) -> str:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        return text


class _ObjectScan:
    """Finds the end of a JSON object in text that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False
        self.is_over = False

    def length_within(self, text: str) -> int:
        """How much of the text belongs to the object."""
        for position, char in enumerate(text):
            if self.is_over:
                return position
            self._read(char)
        return len(text)

    def _read(self, char: str) -> None:
        if self._is_escaped:
            self._is_escaped = False
        elif self._is_in_string:
            self._is_escaped = char == "\\"
            self._is_in_string = char != '"'
        elif char == '"':
            self._is_in_string = True
        elif char in "{[":
            self._depth += 1
        elif char in "}]":
            self._depth -= 1
            self.is_over = self._depth == 0


def _name(quoted: str) -> str:
    """Empty when it is none."""
    try:
        return str(json.loads(quoted))
    except ValueError:
        return ""


def _text(text: str) -> list[Piece]:
    return [TextPiece(text)] if text else []


def _held_back(text: str) -> int:
    """Characters at the end that may begin a call: the mark's own beginning, and white space."""
    for length in range(min(len(text), len(CALL_BEGIN) - 1), 0, -1):
        if CALL_BEGIN.startswith(text[-length:]):
            rest = text[:-length]
            return length + len(rest) - len(rest.rstrip())
    return len(text) - len(text.rstrip())
