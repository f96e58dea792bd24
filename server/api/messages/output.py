"""The blocks of an answer as they grow: text and calls, with their events in Anthropic's order."""

import uuid
from typing import Any

from pydantic_core import from_json

from server.api.tool_calls import CallArguments, CallBegin, Piece, TextPiece

Fields = dict[str, Any]
Told = tuple[str, Fields]  # an event's type and its fields


class Output:
    """Of one answer. Each method returns the events of what happened."""

    def __init__(self) -> None:
        self._blocks: list[Fields] = []
        self._is_open = False  # the last of them grows

    @property
    def blocks(self) -> list[Fields]:
        """As the answer has them. A call that was cut off has what it had by then."""
        return [
            block | {"input": _object(block["input"])} if block["type"] == "tool_use" else block
            for block in self._blocks
        ]

    @property
    def has_calls(self) -> bool:
        return any(block["type"] == "tool_use" for block in self._blocks)

    def piece(self, piece: Piece) -> list[Told]:
        if isinstance(piece, TextPiece):
            return self.text(piece.text)
        if isinstance(piece, CallBegin):
            head = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:24]}", "name": piece.name}
            return self._begin({**head, "input": ""}, {**head, "input": {}})
        if isinstance(piece, CallArguments):
            self._blocks[-1]["input"] += piece.text
            return [self._delta({"type": "input_json_delta", "partial_json": piece.text})]
        return self.close()

    def text(self, text: str) -> list[Told]:
        is_in_text = self._is_open and self._blocks[-1]["type"] == "text"
        block = {"type": "text", "text": ""}
        begun = [] if is_in_text else self._begin(block, dict(block))
        self._blocks[-1]["text"] += text
        return [*begun, self._delta({"type": "text_delta", "text": text})]

    def close(self) -> list[Told]:
        """Nothing when the last block is closed already."""
        if not self._is_open:
            return []
        self._is_open = False
        return [("content_block_stop", {"index": len(self._blocks) - 1})]

    def _begin(self, block: Fields, shown: Fields) -> list[Told]:
        closed = self.close()
        self._blocks.append(block)
        self._is_open = True
        index = len(self._blocks) - 1
        begun = [*closed, ("content_block_start", {"index": index, "content_block": shown})]
        return begun if index else [*begun, ("ping", {})]

    def _delta(self, delta: Fields) -> Told:
        return "content_block_delta", {"index": len(self._blocks) - 1, "delta": delta}


def _object(arguments: str) -> Fields:
    try:
        value = from_json(arguments, allow_partial=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
