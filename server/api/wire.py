"""Domain → wire: the JSON of completions, chunks, usage and errors. Pure functions."""

import time
from typing import Any

import msgspec

from server.engine.types import TextDelta
from server.errors import ApiError
from server.prompt.types import PreparedPrompt

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class CompletionWire:
    """The fields that all pieces of one answer share."""

    def __init__(self, request_id: str, model: str, *, with_usage: bool = False) -> None:
        self._head = {"id": f"chatcmpl-{request_id}", "created": int(time.time()), "model": model}
        self._null_usage: dict[str, Any] = {"usage": None} if with_usage else {}
        # A text chunk is two fixed pieces around the text: nothing is built per token.
        self._before, self._after = self._chunk({"content": "\0"}, None).rsplit(b'"\\u0000"', 1)

    def completion(self, text: str, finish_reason: str, usage: dict[str, Any]) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": None,
            "finish_reason": finish_reason,
        }
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [choice],
            "usage": usage,
        }

    def first_chunk(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""}, None)

    def chunk(self, delta: TextDelta) -> bytes:
        if delta.finish_reason is None:
            return self._before + msgspec.json.encode(delta.text) + self._after
        return self._chunk({"content": delta.text} if delta.text else {}, delta.finish_reason)

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        return event(
            {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        )

    def _chunk(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        head = {**self._head, "object": "chat.completion.chunk"}
        return event({**head, "choices": [choice], **self._null_usage})


def usage(
    prompt: PreparedPrompt, num_completion_tokens: int, num_cached_tokens: int
) -> dict[str, Any]:
    num_prompt_tokens = len(prompt.token_ids)
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_completion_tokens,
        "total_tokens": num_prompt_tokens + num_completion_tokens,
        "prompt_tokens_details": {
            "cached_tokens": num_cached_tokens,
            "image_tokens": prompt.num_image_tokens,
            "video_tokens": prompt.num_video_tokens,
        },
    }


def error_body(error: ApiError) -> dict[str, Any]:
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def event(content: dict[str, Any]) -> bytes:
    """One server-sent event. JSON never holds a raw newline, so one data line is enough."""
    return b"data: " + dumps(content) + b"\n\n"


def dumps(content: dict[str, Any]) -> bytes:
    return msgspec.json.encode(content)
