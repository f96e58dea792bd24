"""One of a request's answers as it grows: tokens in from the link, text out to the reader.

Owns the text so far: the detokenizer, the stop strings' hold-back and what is not yet read.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from model_runtime.protocol import FinishReason, SequenceOutput, TokenLogprobs
from server.engine.types import TextDelta, Timings


class Detokenizer(Protocol):
    """Token ids in, whole characters out; incomplete bytes are held back."""

    def add(self, token_ids: Sequence[int]) -> str: ...

    def finish(self) -> str: ...


class StopStrings(Protocol):
    """Text in, text out up to a stop string; what may begin one is held back."""

    @property
    def found(self) -> str:
        """The one that ended the answer; empty before."""
        ...

    def feed(self, text: str) -> tuple[str, bool]: ...

    def flush(self) -> str: ...


class AnswerText:
    """Takes outputs as they come, gives them out as one delta."""

    def __init__(self, index: int, detokenizer: Detokenizer, stop_strings: StopStrings) -> None:
        self._index = index
        self._detokenizer = detokenizer
        self._stop_strings = stop_strings
        self._token_ids: list[int] = []  # pushed, not yet read
        self._logprobs: list[TokenLogprobs] = []  # of them, when asked for
        self._prompt_logprobs: list[TokenLogprobs | None] | None = None
        self._num_cached_tokens = 0
        self._finish_reason: FinishReason | None = None
        self._watch = _StopWatch()
        self.has_news = False
        self.is_over = False  # its last delta has been read

    def push(self, output: SequenceOutput) -> None:
        if self.is_over:  # a stop string ended it; the engine hears of that a moment later
            return
        self._token_ids += output.new_token_ids
        self._logprobs += output.logprobs or []
        self._prompt_logprobs = output.prompt_logprobs or self._prompt_logprobs
        self._num_cached_tokens = output.num_cached_tokens
        self._watch.look(output)
        self._finish_reason = output.finish_reason
        self.has_news = True

    @property
    def is_ended_by_engine(self) -> bool:
        """Nothing more will be pushed."""
        return self._finish_reason is not None

    def take(self) -> TextDelta:
        """Everything pushed so far as one delta; the stop strings may end it early."""
        self.has_news = False
        parts: list[str] = []
        for count, token_id in enumerate(self._token_ids, start=1):
            text, is_stopped = self._stop_strings.feed(self._detokenizer.add([token_id]))
            parts.append(text)
            if is_stopped:
                return self._delta(parts, count, "stop")
        count = len(self._token_ids)
        if self._finish_reason is None:
            return self._delta(parts, count, None)
        return self._last_delta(parts, count)

    def _last_delta(self, parts: list[str], count: int) -> TextDelta:
        text, is_stopped = self._stop_strings.feed(self._detokenizer.finish())
        parts.append(text)
        if not is_stopped:
            parts.append(self._stop_strings.flush())
        return self._delta(parts, count, "stop" if is_stopped else self._finish_reason)

    def _delta(self, parts: list[str], count: int, reason: FinishReason | None) -> TextDelta:
        delta = TextDelta(
            "".join(parts),
            count,
            reason,
            self._num_cached_tokens,
            self._index,
            tuple(self._logprobs[:count]),
            tuple(self._token_ids[:count]),
            self._prompt_logprobs,
            self._stop_strings.found,
            self._watch.timings() if reason is not None else None,
        )
        self.is_over = reason is not None
        self._token_ids, self._logprobs, self._prompt_logprobs = [], [], None
        return delta


class _StopWatch:
    """Started with the request. The worker's clock is ours: time.monotonic() is system-wide."""

    def __init__(self) -> None:
        self._submitted = time.monotonic()
        self._first_token = self._last_token = 0.0
        self._num_tokens = 0
        self._last_output: SequenceOutput | None = None

    def look(self, output: SequenceOutput) -> None:
        self._last_token = time.monotonic()
        self._first_token = self._first_token or self._last_token
        self._num_tokens += len(output.new_token_ids)
        self._last_output = output

    def timings(self) -> Timings | None:
        output = self._last_output
        if output is None:
            return None
        return Timings(
            queue_s=max(0.0, output.scheduled_s - self._submitted),
            prefill_s=max(0.0, self._first_token - output.scheduled_s),
            decode_s=self._last_token - self._first_token,
            num_tokens=self._num_tokens,
            num_preemptions=output.num_preemptions,
        )
