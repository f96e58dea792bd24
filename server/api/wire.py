"""Domain → wire: the JSON of completions, chunks, usage and errors. Pure functions."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from model_runtime.protocol import TokenLogprobs
from server.api.answer import Answer
from server.api.logprobs import TokenBytes, chat_logprobs
from server.api.tool_wire import CallDeltas, whole_message
from server.engine.types import TextDelta
from server.errors import ApiError

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(slots=True)
class Choice:
    """One of a request's answers, collected."""

    texts: list[str] = field(default_factory=list)
    scores: list[TokenLogprobs] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    stop_string: str = ""

    def add(self, delta: TextDelta) -> None:
        self.texts.append(delta.text)
        self.scores += delta.logprobs
        self.token_ids += delta.token_ids
        self.prompt_logprobs = delta.prompt_logprobs or self.prompt_logprobs
        self.finish_reason = delta.finish_reason or self.finish_reason
        self.stop_string = delta.stop_string or self.stop_string


class CompletionWire:
    """The fields that all pieces of one request's answers share."""

    def __init__(
        self,
        request_id: str,
        model: str,
        *,
        with_usage: bool = False,
        with_token_ids: bool = False,
        with_calls: bool = False,
        token_bytes: TokenBytes | None = None,
    ) -> None:
        """`with_calls`: answers may hold tool calls. `token_bytes`: given when log-probabilities
        are asked for."""
        self._calls: dict[int, CallDeltas] | None = defaultdict(CallDeltas) if with_calls else None
        self._head = {"id": f"chatcmpl-{request_id}", "created": int(time.time()), "model": model}
        self._null_usage: dict[str, Any] = {"usage": None} if with_usage else {}
        self._token_bytes = token_bytes
        self._with_token_ids = with_token_ids
        # A text chunk is two fixed pieces around the text: nothing is built per token.
        self._before, self._after = self._chunk({"content": "\0"}, TextDelta("", 0)).rsplit(
            b'"\\u0000"', 1
        )

    def completion(self, choices: list[Choice], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [self._choice(index, choice) for index, choice in enumerate(choices)],
            "usage": usage,
        }

    def first_chunk(self, index: int) -> bytes:
        nothing_yet = TextDelta("", 0, index=index)
        return self._chunk({"role": "assistant", "content": ""}, nothing_yet)

    def chunks(self, delta: TextDelta, usage: dict[str, Any] | None = None) -> Iterator[bytes]:
        """`usage`: so far, when it is wanted with every chunk."""
        if self._calls is None:
            yield self._text_chunk(delta, usage)
            return
        for content, goes_with in self._calls[delta.index].split(delta):
            reason = self._calls[delta.index].finish_reason(goes_with)
            yield self._chunk(content, goes_with, usage, reason)

    def _text_chunk(self, delta: TextDelta, usage: dict[str, Any] | None) -> bytes:
        is_plain = delta.finish_reason is None and not delta.index and not delta.logprobs
        if is_plain and usage is None and not self._with_token_ids:
            return self._before + msgspec.json.encode(delta.text) + self._after
        return self._chunk({"content": delta.text} if delta.text else {}, delta, usage)

    def usage_chunk(self, usage: dict[str, Any]) -> bytes:
        return event(
            {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage}
        )

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        text = "".join(choice.texts)
        message = {"content": text} if self._calls is None else whole_message(text)
        has_called = "tool_calls" in message and choice.finish_reason == "stop"
        return {
            "index": index,
            "message": {"role": "assistant", **message, "refusal": None},
            "logprobs": self._logprobs(choice.scores),
            "finish_reason": "tool_calls" if has_called else choice.finish_reason,
            **self._ids(choice.token_ids),
        }

    def _chunk(
        self,
        content: dict[str, Any],
        delta: TextDelta,
        usage: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        choice = {
            "index": delta.index,
            "delta": content,
            "logprobs": self._logprobs(delta.logprobs) if delta.logprobs else None,
            "finish_reason": finish_reason or delta.finish_reason,
            **self._ids(delta.token_ids),
        }
        head = {**self._head, "object": "chat.completion.chunk"}
        counts = self._null_usage if usage is None else {"usage": usage}
        return event({**head, "choices": [choice], **counts})

    def _ids(self, token_ids: Sequence[int]) -> dict[str, Any]:
        return {"token_ids": token_ids} if self._with_token_ids else {}

    def _logprobs(self, scores: Sequence[TokenLogprobs]) -> dict[str, Any] | None:
        return chat_logprobs(scores, self._token_bytes) if self._token_bytes else None


def usage(answer: Answer) -> dict[str, Any]:
    """OpenAI's counts, and how much of the prompt was seen rather than read."""
    num_prompt_tokens = answer.num_prompt_tokens
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": answer.num_tokens,
        "total_tokens": num_prompt_tokens + answer.num_tokens,
        "prompt_tokens_details": {
            "cached_tokens": answer.num_cached_tokens,
            "image_tokens": sum(prompt.num_image_tokens for prompt in answer.prompts),
            "video_tokens": sum(prompt.num_video_tokens for prompt in answer.prompts),
            "image_tiles": sum(prompt.num_image_tiles for prompt in answer.prompts),
            "video_frames": sum(prompt.num_video_frames for prompt in answer.prompts),
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


def named_event(name: str, content: dict[str, Any]) -> bytes:
    """One server-sent event with its name."""
    return b"event: " + name.encode() + b"\n" + event(content)


def dumps(content: dict[str, Any]) -> bytes:
    return msgspec.json.encode(content)
