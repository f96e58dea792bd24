"""Unguessable words that take the place of user text while a template is rendered.

So the control tokens in the rendered text are the template's own, every one of them.
"""

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from server.prompt.types import CalledFunction, ChatMessage, MediaPart, TextPart


class StandIns:
    """Of one prompt."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    @property
    def texts(self) -> Iterator[str]:
        """What they stand for."""
        return iter(self._texts.values())

    def stand_in(self, text: str) -> str:
        word = f"text-{secrets.token_hex(16)}"
        self._texts[word] = text
        return word

    def in_messages(self, messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
        """The messages as a template expects them."""
        return [self._in_message(message) for message in messages]

    def in_json(self, value: Any) -> Any:
        """A value that the template will write as JSON: only text in which a control token
        could hide is replaced, so that lengths and orders stay what they are."""
        if isinstance(value, str):
            inside_quotes = json.dumps(value, ensure_ascii=False)[1:-1]
            return self.stand_in(inside_quotes) if "<" in value else value
        if isinstance(value, list):
            return [self.in_json(item) for item in value]
        if isinstance(value, dict):
            return {self.in_json(name): self.in_json(item) for name, item in value.items()}
        return value

    def split(self, rendered: str) -> list[tuple[str, bool]]:
        """Pieces of the rendered template, each with whether it is user text."""
        if not self._texts:
            return [(rendered, False)]
        pieces = re.split("(" + "|".join(self._texts) + ")", rendered)
        return [(self._texts.get(piece, piece), piece in self._texts) for piece in pieces if piece]

    def cut_after_last(self, rendered: str) -> str:
        """The last message stays open: what the template writes after it is left out."""
        word = next(reversed(self._texts))
        return rendered[: rendered.rindex(word) + len(word)]

    def _in_message(self, message: ChatMessage) -> dict[str, Any]:
        items = [self._in_part(part) for part in message.parts if not _is_empty(part)]
        has_media = any(item["type"] != "text" for item in items)
        content = items if has_media else "".join(item["text"] for item in items)
        rendered: dict[str, Any] = {"role": message.role, "content": content}
        if message.calls:
            rendered["tool_calls"] = [self._in_call(call) for call in message.calls]
        return rendered

    def _in_part(self, part: TextPart | MediaPart) -> dict[str, str]:
        if isinstance(part, MediaPart):
            return {"type": part.media.kind}
        return {"type": "text", "text": self.stand_in(part.text)}

    def _in_call(self, call: CalledFunction) -> dict[str, Any]:
        function = {"name": call.name, "arguments": self.in_json(json.loads(call.arguments))}
        return {"type": "function", "function": function}


def _is_empty(part: TextPart | MediaPart) -> bool:
    return isinstance(part, TextPart) and not part.text
