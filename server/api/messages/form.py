"""How POST /v1/messages answers: one message, or events around its growth."""

from collections.abc import Iterator
from typing import Any

from server.api.answer import Answer
from server.api.messages.errors import messages_error
from server.api.messages.output import Output, Told
from server.api.tool_calls import ToolCallReader
from server.api.wire import Choice, named_event
from server.engine.types import TextDelta
from server.errors import ApiError


class MessagesFormat:
    def __init__(self, request_id: str, model: str, *, with_calls: bool, max_tokens: int) -> None:
        self._head = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        self._max_tokens = max_tokens
        self._reader = ToolCallReader() if with_calls else None
        self._output = Output()
        self._finish_reason: str | None = None
        self._stop_string = ""

    def whole(self, choices: list[Choice], answer: Answer) -> dict[str, Any]:
        (choice,) = choices
        self._tell("".join(choice.texts), choice.finish_reason, choice.stop_string)
        message = self._head | {"content": self._output.blocks}
        return message | self._end(answer) | {"usage": _usage(answer)}

    def opening(self, answer: Answer) -> Iterator[bytes]:
        nothing_yet: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
        message = self._head | nothing_yet | {"usage": _usage(answer)}
        yield _event("message_start", {"message": message})

    def piece(self, delta: TextDelta, answer: Answer) -> Iterator[bytes]:
        for name, fields in self._tell(delta.text, delta.finish_reason, delta.stop_string):
            yield _event(name, fields)

    def closing(self, answer: Answer) -> Iterator[bytes]:
        yield _event("message_delta", {"delta": self._end(answer), "usage": _usage(answer)})
        yield _event("message_stop", {})

    def failure(self, error: ApiError) -> bytes:
        return named_event("error", messages_error(error))

    def _tell(self, text: str, finish_reason: str | None, stop_string: str) -> list[Told]:
        """What a piece of the answer's text means for its blocks."""
        told = self._grow(text, is_last=finish_reason is not None)
        if finish_reason is not None:
            self._finish_reason, self._stop_string = finish_reason, stop_string
            told += self._output.close()
        return told

    def _grow(self, text: str, *, is_last: bool) -> list[Told]:
        if self._reader is None:
            return self._output.text(text) if text else []
        pieces = self._reader.feed(text) + (self._reader.finish() if is_last else [])
        return [told for piece in pieces for told in self._output.piece(piece)]

    def _end(self, answer: Answer) -> dict[str, Any]:
        return {
            "stop_reason": self._stop_reason(answer),
            "stop_sequence": self._stop_string or None,
        }

    def _stop_reason(self, answer: Answer) -> str:
        if self._finish_reason == "length":
            is_asked_for = answer.num_tokens >= self._max_tokens
            return "max_tokens" if is_asked_for else "model_context_window_exceeded"
        if self._stop_string:
            return "stop_sequence"
        return "tool_use" if self._output.has_calls else "end_turn"


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return named_event(name, {"type": name, **fields})


def _usage(answer: Answer) -> dict[str, int]:
    """What came from the cache is counted apart from the rest of the prompt."""
    return {
        "input_tokens": answer.num_prompt_tokens - answer.num_cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.num_cached_tokens,
        "output_tokens": answer.num_tokens,
    }
