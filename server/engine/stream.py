"""One request's answer as it grows: tokens in from the link, text out to the handler.

Owns the text so far: the detokenizer, the stop strings' hold-back and the token count.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from model_runtime.protocol import FinishReason, SequenceOutput
from server.engine.types import TextDelta
from server.errors import ApiError, EngineError


class Detokenizer(Protocol):
    """Token ids in, whole characters out; incomplete bytes are held back."""

    def add(self, token_ids: Sequence[int]) -> str: ...

    def finish(self) -> str: ...


class StopStrings(Protocol):
    """Text in, text out up to a stop string; what may begin one is held back."""

    def feed(self, text: str) -> tuple[str, bool]: ...

    def flush(self) -> str: ...


class EngineStream:
    """An async iterator of `TextDelta`s. The link pushes, one reader pulls; nobody waits to push.

    A slow reader costs memory for at most `max_tokens` ids, and sees several tokens per delta.
    """

    def __init__(
        self,
        request_id: str,
        detokenizer: Detokenizer,
        stop_strings: StopStrings,
        on_abort: Callable[[str], None],
    ) -> None:
        self.request_id = request_id
        self._detokenizer = detokenizer
        self._stop_strings = stop_strings
        self._on_abort = on_abort
        self._token_ids: list[int] = []  # pushed, not yet read
        self._num_cached_tokens = 0
        self._finish_reason: FinishReason | None = None
        self._failure: ApiError | None = None
        self._news = asyncio.Event()
        self._is_read_to_end = False

    # ------------------------------------------------------------------ the link's side

    def push(self, output: SequenceOutput) -> None:
        self._token_ids += output.new_token_ids
        self._num_cached_tokens = output.num_cached_tokens
        self._finish_reason = output.finish_reason
        if output.finish_reason == "error":
            self._failure = EngineError(output.error or "The request failed in the engine.")
        self._news.set()

    def fail(self, failure: ApiError) -> None:
        self._failure = failure
        self._news.set()

    # ------------------------------------------------------------------ the reader's side

    def abort(self) -> None:
        """Stop the request. Synchronous, idempotent, harmless after the end."""
        if not self._is_read_to_end:
            self._is_read_to_end = True
            self._on_abort(self.request_id)

    def __aiter__(self) -> AsyncIterator[TextDelta]:
        return self

    async def __anext__(self) -> TextDelta:
        """The next piece. Raises ApiError when the engine failed the request."""
        if self._is_read_to_end:
            raise StopAsyncIteration
        await self._news.wait()
        self._news.clear()
        if self._failure is not None:
            self._is_read_to_end = True
            raise self._failure
        return self._take()

    def _take(self) -> TextDelta:
        """Everything pushed so far as one delta; the stop strings may end it early."""
        parts, num_tokens = [], 0
        token_ids, self._token_ids = self._token_ids, []
        for token_id in token_ids:
            num_tokens += 1
            text, is_stopped = self._stop_strings.feed(self._detokenizer.add([token_id]))
            parts.append(text)
            if is_stopped:
                self.abort()
                return self._delta(parts, num_tokens, "stop")
        if self._finish_reason is None:
            return self._delta(parts, num_tokens, None)
        return self._take_last(parts, num_tokens)

    def _take_last(self, parts: list[str], num_tokens: int) -> TextDelta:
        self._is_read_to_end = True
        text, is_stopped = self._stop_strings.feed(self._detokenizer.finish())
        parts.append(text)
        if not is_stopped:
            parts.append(self._stop_strings.flush())
        reason: FinishReason | None = "stop" if is_stopped else self._finish_reason
        return self._delta(parts, num_tokens, reason)

    def _delta(self, parts: list[str], num_tokens: int, reason: FinishReason | None) -> TextDelta:
        return TextDelta("".join(parts), num_tokens, reason, self._num_cached_tokens)
