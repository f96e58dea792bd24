"""Reads stamped answers: when content came, how many tokens it was, what went wrong."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clients.bench.wire import Stamped

_CONTENT_FIELDS = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal")


@dataclass(frozen=True, slots=True)
class Record:
    """One request as it went; times in seconds of one clock. Token counts are the server's."""

    intended: float
    started: float
    ended: float
    first_event: float | None = None  # of the first chunk, which may say only a role
    content_times: tuple[float, ...] = ()  # of each chunk that carried content
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    error: str | None = None  # a code to count by
    message: str | None = None  # the server's words about it


@dataclass(slots=True)
class _Answer:
    """What the events of a stream have told so far."""

    first_event: float | None = None
    times: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    is_finished: bool = False
    error: str | None = None
    message: str | None = None

    def take(self, when: float, event: dict[str, Any]) -> None:
        if "error" in event:
            self.error, self.message = _error("in stream", event)
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", ()):
            self.first_event = self.first_event or when
            self.is_finished |= choice.get("finish_reason") is not None
            delta = choice.get("delta", {})
            if any(delta.get(name) for name in _CONTENT_FIELDS):
                self.times.append(when)


def read_answer(stamped: Stamped) -> Record:
    times = (stamped.intended, stamped.started, stamped.ended)
    if stamped.status is None or stamped.status >= 400:
        error, message = _refusal(stamped)
        return Record(*times, error=error, message=message)
    answer = _Answer()
    try:
        for when, data in events(stamped.reads):
            if data != b"[DONE]":
                answer.take(when, json.loads(data))
    except (ValueError, TypeError, AttributeError):
        return Record(*times, error="not a chat stream")
    return _record(stamped, answer)


def _record(stamped: Stamped, answer: _Answer) -> Record:
    error = answer.error or stamped.failure
    if error is None and not answer.is_finished:
        error = "incomplete stream"
    details = answer.usage.get("prompt_tokens_details") or {}
    return Record(
        stamped.intended,
        stamped.started,
        stamped.ended,
        answer.first_event,
        tuple(answer.times),
        answer.usage.get("prompt_tokens"),
        answer.usage.get("completion_tokens"),
        details.get("cached_tokens") or 0,
        error,
        answer.message,
    )


def events(reads: tuple[tuple[float, bytes], ...]) -> Iterator[tuple[float, bytes]]:
    """The data of each server-sent event, with the time of the read that completed its line."""
    rest = b""
    for when, data in reads:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield when, line.removeprefix(b"data:").strip()


def _refusal(stamped: Stamped) -> tuple[str, str | None]:
    if stamped.status is None:
        return stamped.failure or "no answer", None
    try:
        return _error(str(stamped.status), json.loads(b"".join(data for _, data in stamped.reads)))
    except ValueError:
        return str(stamped.status), None


def _error(prefix: str, answer: Any) -> tuple[str, str | None]:
    """The code to count by, and the message, of an error in OpenAI's shape or another."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return prefix, None
    code = error.get("code") or error.get("type")
    message = error.get("message")
    return f"{prefix} {code}" if code else prefix, str(message) if message else None
