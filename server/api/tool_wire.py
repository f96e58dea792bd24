"""Tool calls in OpenAI's JSON: whole, and in pieces as they are written."""

import uuid
from typing import Any

from server.api.tool_calls import (
    CallArguments,
    CallBegin,
    Piece,
    TextPiece,
    ToolCallReader,
)
from server.engine.types import TextDelta


def new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


def whole_message(text: str) -> dict[str, Any]:
    """The message's `content` and `tool_calls`."""
    reader = ToolCallReader()
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for piece in [*reader.feed(text), *reader.finish()]:
        if isinstance(piece, TextPiece):
            texts.append(piece.text)
        elif isinstance(piece, CallBegin):
            function = {"name": piece.name, "arguments": ""}
            calls.append({"id": new_call_id(), "type": "function", "function": function})
        elif isinstance(piece, CallArguments):
            calls[piece.index]["function"]["arguments"] += piece.text
    content = "".join(texts)
    return {"content": content or None, "tool_calls": calls} if calls else {"content": content}


class CallDeltas:
    """One choice's deltas, with calls in their place."""

    def __init__(self) -> None:
        self._reader = ToolCallReader()

    def split(self, delta: TextDelta) -> list[tuple[dict[str, Any], TextDelta]]:
        """Pairs of a chunk's `delta` and what goes with it; scores and the end with the last."""
        is_last = delta.finish_reason is not None
        pieces = self._reader.feed(delta.text) + (self._reader.finish() if is_last else [])
        contents = [content for piece in pieces if (content := _content(piece))]
        if not contents and (is_last or delta.logprobs or delta.token_ids):
            contents = [{}]
        bare = TextDelta("", 0, index=delta.index)
        goes_with = [bare] * (len(contents) - 1) + [delta]
        return list(zip(contents, goes_with, strict=False))

    def finish_reason(self, delta: TextDelta) -> str | None:
        """A call is the end that the model chose."""
        has_called = delta.finish_reason == "stop" and self._reader.num_calls
        return "tool_calls" if has_called else delta.finish_reason


def _content(piece: Piece) -> dict[str, Any] | None:
    if isinstance(piece, TextPiece):
        return {"content": piece.text}
    if isinstance(piece, CallBegin):
        function = {"name": piece.name, "arguments": ""}
        call = {"index": piece.index, "id": new_call_id(), "type": "function"}
        return {"tool_calls": [call | {"function": function}]}
    if isinstance(piece, CallArguments):
        call = {"index": piece.index, "function": {"arguments": piece.text}}
        return {"tool_calls": [call]}
    return None
