"""How POST /v1/responses answers: one response object, or events around its growth."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from server.api.answer import Answer
from server.api.parts import Parts
from server.api.responses.output import Output, Told
from server.api.responses.schemas import ResponsesRequest
from server.api.tool_calls import ToolCallReader
from server.api.wire import Choice, named_event, usage
from server.engine.types import TextDelta
from server.errors import ApiError

OnEnd = Callable[[dict[str, Any]], None]


class ResponsesFormat:
    """`on_end` hears the whole response, when there is one."""

    def __init__(
        self,
        wire: ResponsesRequest,
        parts: Parts,
        request_id: str,
        *,
        with_calls: bool,
        is_stored: bool,
        on_end: OnEnd,
    ) -> None:
        self.response_id = f"resp_{request_id}"
        head = {"id": self.response_id, "object": "response", "created_at": int(time.time())}
        self._head = head | _settings(wire, parts) | {"store": is_stored}
        self._reader = ToolCallReader() if with_calls else None
        self._output = Output()
        self._finish_reason: str | None = None
        self._num_events = 0
        self._on_end = on_end

    def whole(self, choices: list[Choice], answer: Answer) -> dict[str, Any]:
        self._tell("".join(choices[0].texts), choices[0].finish_reason)
        return self._end(answer)

    def opening(self, answer: Answer) -> Iterator[bytes]:
        body = self._body("in_progress")
        yield self._event("created", {"response": body})
        yield self._event("in_progress", {"response": body})

    def piece(self, delta: TextDelta, answer: Answer) -> Iterator[bytes]:
        for name, fields in self._tell(delta.text, delta.finish_reason):
            yield self._event(name, fields)

    def closing(self, answer: Answer) -> Iterator[bytes]:
        body = self._end(answer)
        yield self._event(body["status"], {"response": body})

    def failure(self, error: ApiError) -> bytes:
        if self._output.items:
            self._output.finish("incomplete")
        problem = {"code": "server_error", "message": error.message}
        return self._event("failed", {"response": self._body("failed") | {"error": problem}})

    def _tell(self, text: str, finish_reason: str | None) -> list[Told]:
        """What a piece of the answer's text means for its items."""
        told = self._grow(text, is_last=finish_reason is not None)
        if finish_reason is not None:
            self._finish_reason = finish_reason
            told += self._output.finish(self._status)
        return told

    def _grow(self, text: str, *, is_last: bool) -> list[Told]:
        if self._reader is None:
            return self._output.text(text) if text else []
        pieces = self._reader.feed(text) + (self._reader.finish() if is_last else [])
        return [told for piece in pieces for told in self._output.piece(piece)]

    @property
    def _status(self) -> str:
        return "incomplete" if self._finish_reason == "length" else "completed"

    def _end(self, answer: Answer) -> dict[str, Any]:
        body = self._body(self._status) | {"usage": _usage(answer)}
        if self._status == "incomplete":
            body["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            body["completed_at"] = int(time.time())
        self._on_end(body)
        return body

    def _body(self, status: str) -> dict[str, Any]:
        return self._head | {"status": status, "output": list(self._output.items)}

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        kind = f"response.{name}"
        content = {"type": kind, "sequence_number": self._num_events, **fields}
        self._num_events += 1
        return named_event(kind, content)


def _settings(wire: ResponsesRequest, parts: Parts) -> dict[str, Any]:
    """What was asked, and by which rules it is answered."""
    defaults = parts.checkpoint.generation
    shown = {"text", "tools", "tool_choice"}
    own = wire.model_dump(include=shown, by_alias=True, exclude_none=True)
    tools = own.get("tools") or []
    return {
        "model": parts.model_name,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "completed_at": None,
        "instructions": wire.instructions,
        "previous_response_id": wire.previous_response_id,
        "max_output_tokens": wire.max_output_tokens,
        "temperature": defaults.temperature if wire.temperature is None else wire.temperature,
        "top_p": defaults.top_p if wire.top_p is None else wire.top_p,
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | own.get("text", {}),
        "tools": [{"description": None, "parameters": None, "strict": None} | t for t in tools],
        "tool_choice": own.get("tool_choice", "auto"),
        "parallel_tool_calls": wire.parallel_tool_calls is not False,
        "reasoning": {"effort": None, "summary": None},
        "truncation": "disabled",
        "service_tier": "default",
        "top_logprobs": 0,
        "metadata": wire.metadata or {},
        "user": wire.user,
        "usage": None,
    }


def _usage(answer: Answer) -> dict[str, Any]:
    counts = usage(answer)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {**counts["prompt_tokens_details"], "cache_write_tokens": 0},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }
