"""The items of an answer as they grow: messages and calls, with their events in OpenAI's order."""

import json
import uuid
from typing import Any

from server.api.tool_calls import CallArguments, CallBegin, Piece, TextPiece
from server.api.tool_wire import new_call_id

Fields = dict[str, Any]
Told = tuple[str, Fields]  # an event's type, without `response.`, and its fields


class Output:
    """Of one answer. Each method returns the events of what happened."""

    def __init__(self) -> None:
        self.items: list[Fields] = []
        self._is_open = False  # the last of them grows

    def piece(self, piece: Piece) -> list[Told]:
        if isinstance(piece, TextPiece):
            return self.text(piece.text)
        if isinstance(piece, CallBegin):
            return self._begin_call(piece.name)
        if isinstance(piece, CallArguments):
            self.items[-1]["arguments"] += piece.text
            return [("function_call_arguments.delta", {**self._place(), "delta": piece.text})]
        is_whole = is_json(self.items[-1]["arguments"])  # and was not cut off
        return self._close("completed" if is_whole else "incomplete")

    def text(self, text: str) -> list[Told]:
        is_in_message = self._is_open and self.items[-1]["type"] == "message"
        begun = [] if is_in_message else self._begin_message()
        self.items[-1]["content"][0]["text"] += text
        delta = {**self._place(), "content_index": 0, "delta": text, "logprobs": []}
        return [*begun, ("output_text.delta", delta)]

    def finish(self, status: str) -> list[Told]:
        """An answer without anything in it is an empty message."""
        begun = [] if self.items else self._begin_message()
        return begun + self._close(status)

    def _begin_message(self) -> list[Told]:
        head = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant"}
        begun = self._begin({**head, "status": "in_progress", "content": []})
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.items[-1]["content"].append(part)
        added = {**self._place(), "content_index": 0, "part": dict(part)}
        return [*begun, ("content_part.added", added)]

    def _begin_call(self, name: str) -> list[Told]:
        head = {"id": f"fc_{uuid.uuid4().hex}", "type": "function_call", "call_id": new_call_id()}
        return self._begin({**head, "name": name, "arguments": "", "status": "in_progress"})

    def _begin(self, item: Fields) -> list[Told]:
        closed = self._close("completed")
        self.items.append(item)
        self._is_open = True
        added = {"output_index": len(self.items) - 1, "item": _copy(item)}
        return [*closed, ("output_item.added", added)]

    def _close(self, status: str) -> list[Told]:
        """The last item is as it will be; nothing when that is so already."""
        if not self._is_open:
            return []
        item, place = self.items[-1], self._place()
        self._is_open = False
        item["status"] = status
        done = _text_done if item["type"] == "message" else _call_done
        item_done = {"output_index": place["output_index"], "item": _copy(item)}
        return [*done(item, place), ("output_item.done", item_done)]

    def _place(self) -> Fields:
        return {"item_id": self.items[-1]["id"], "output_index": len(self.items) - 1}


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _text_done(item: Fields, place: Fields) -> list[Told]:
    part = item["content"][0]
    place = {**place, "content_index": 0}
    return [
        ("output_text.done", {**place, "text": part["text"], "logprobs": []}),
        ("content_part.done", {**place, "part": dict(part)}),
    ]


def _call_done(item: Fields, place: Fields) -> list[Told]:
    arguments = {"name": item["name"], "arguments": item["arguments"]}
    return [("function_call_arguments.done", {**place, **arguments})]


def _copy(item: Fields) -> Fields:
    """An event says what was, whatever becomes of the item."""
    if "content" not in item:
        return dict(item)
    return {**item, "content": [dict(part) for part in item["content"]]}
