"""A request's answers on their way from the link to the handler."""

import asyncio
from collections.abc import AsyncIterator, Callable

from model_runtime.protocol import ErrorKind, SequenceOutput
from server.engine.answer_text import AnswerText
from server.engine.types import TextDelta
from server.errors import (
    ApiError,
    EngineError,
    InvalidRequestError,
    NumericalError,
    OverloadedError,
)

_FAILURES: dict[ErrorKind, type[ApiError]] = {
    "failure": EngineError,
    "refusal": InvalidRequestError,
    "no_memory": OverloadedError,
    "not_finite": NumericalError,
}
OnAbort = Callable[[str, int | None], None]  # (request id, which answer; None: all)


class EngineStream:
    """An async iterator of `TextDelta`s. The link pushes, one reader pulls; nobody waits to push.

    A slow reader costs memory for at most `n * max_tokens` ids, and sees several tokens per
    delta.
    """

    def __init__(self, request_id: str, answers: list[AnswerText], on_abort: OnAbort) -> None:
        self.request_id = request_id
        self._answers = answers
        self._on_abort = on_abort
        self._failure: ApiError | None = None
        self._news = asyncio.Event()
        self._is_over = False

    # ------------------------------------------------------------------ the link's side

    def push(self, output: SequenceOutput) -> None:
        self._answers[output.index].push(output)
        if output.finish_reason == "error":
            self._failure = _failure(output)
        self._news.set()

    def fail(self, failure: ApiError) -> None:
        self._failure = failure
        self._news.set()

    @property
    def is_complete(self) -> bool:
        """Nothing more will be pushed."""
        return self._failure is not None or all(
            answer.is_over or answer.is_ended_by_engine for answer in self._answers
        )

    # ------------------------------------------------------------------ the reader's side

    def abort(self) -> None:
        """Stop the request. Synchronous, idempotent, harmless after the end."""
        if not self._is_over:
            self._is_over = True
            self._on_abort(self.request_id, None)

    def __aiter__(self) -> AsyncIterator[TextDelta]:
        return self

    async def __anext__(self) -> TextDelta:
        """The next piece. Raises ApiError when the engine failed the request."""
        if self._is_over:
            raise StopAsyncIteration
        while True:
            await self._news.wait()
            if self._failure is not None:
                self._is_over = True
                raise self._failure
            fresh = [answer for answer in self._answers if answer.has_news]
            if len(fresh) < 2:
                self._news.clear()
            if fresh:
                return self._take(fresh[0])

    def _take(self, answer: AnswerText) -> TextDelta:
        delta = answer.take()
        if answer.is_over and not answer.is_ended_by_engine:
            self._stop(delta.index)
        self._is_over = self._is_over or all(each.is_over for each in self._answers)
        return delta

    def _stop(self, index: int) -> None:
        """A stop string ended an answer: the engine need not go on with it."""
        if self.is_complete:
            self.abort()
        else:
            self._on_abort(self.request_id, index)


def _failure(output: SequenceOutput) -> ApiError:
    message = output.error or "The request failed in the engine."
    return _FAILURES[output.error_kind](message)
