"""The way of every answer: admit → begin → one JSON object, or a stream of events.

Every 4xx is raised before headers go out. The permit and the engine's request are given back
exactly once, whatever happens. What an endpoint is asked and how it writes belong to the
endpoint: it brings `Begin` and an `AnswerFormat`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from server.api.answer import Answer
from server.api.connection import EventStreamResponse, read_body, until_gone
from server.api.deadline import deadline_of, in_time
from server.api.parts import Parts
from server.api.wire import KEEP_ALIVE, Choice, dumps
from server.engine.types import CompletionStream, TextDelta
from server.errors import ApiError, EngineError, UnavailableError, internal_error

logger = logging.getLogger(__name__)
KEEP_ALIVE_S = 15.0
_LARGE_BODY_BYTES = 1 << 16  # parsed off the event loop: bodies with data URLs are megabytes

T = TypeVar("T")
Begin = Callable[[Answer], Coroutine[Any, Any, None]]


class AnswerFormat(Protocol):
    """How an endpoint writes one request's answers: `whole`, or the events in this order."""

    def whole(self, choices: list[Choice], answer: Answer) -> dict[str, Any]: ...

    def opening(self, answer: Answer) -> Iterable[bytes]: ...

    def piece(self, delta: TextDelta, answer: Answer) -> Iterable[bytes]: ...

    def closing(self, answer: Answer) -> Iterable[bytes]: ...

    def failure(self, error: ApiError) -> bytes:
        """Instead of `closing`."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """A request that was read: how it begins, and how its answer is written."""

    begin: Begin
    form: AnswerFormat


class Answering:
    """Runs answers over the parts that do the work."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def read(self, http: Request, parse: Callable[[bytes], T]) -> T:
        """The body as `parse` reads it. Raises ApiError, ClientGoneError."""
        body = await read_body(http, self._parts.settings.max_body_bytes)
        if len(body) > _LARGE_BODY_BYTES:
            return await asyncio.to_thread(parse, body)
        return parse(body)

    async def respond(
        self, http: Request, begin: Begin, form: AnswerFormat, *, is_streamed: bool
    ) -> Response:
        """`begin` does all that can be refused and hands the request to the engine."""
        deadline_s = deadline_of(http, self._parts.settings.request_timeout)
        answer = self.admit(http.state.request_id, http.state.facts, http.state.key_id, deadline_s)
        is_handed_over = False
        try:
            await until_gone(http.receive, in_time(begin(answer), deadline_s))
            if is_streamed:
                is_handed_over = True
                return EventStreamResponse(self._events(answer, form), answer.end)
            content = await until_gone(http.receive, self.collect(answer, form))
            return Response(dumps(content), media_type="application/json")
        finally:
            if not is_handed_over:
                answer.end()

    async def work_out(self, http: Request, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work` that needs no engine: under a permit and in time all the same."""
        try:
            deadline_s = deadline_of(http, self._parts.settings.request_timeout)
            permit = self._parts.admission.admit(http.state.key_id)
        except ApiError:
            work.close()
            raise
        try:
            return await until_gone(http.receive, in_time(work, deadline_s))
        finally:
            permit.release()

    def admit(
        self,
        request_id: str,
        facts: dict[str, Any],
        key_id: str = "",
        deadline_s: float | None = None,
    ) -> Answer:
        """Raises UnavailableError, OverloadedError. The caller ends the answer."""
        health = self._parts.engine.health()
        if not health.is_ready:
            raise UnavailableError(f"The server is not ready: {health.reason}.")
        started = time.monotonic()
        permit = self._parts.admission.admit(key_id)
        return Answer(
            request_id, permit, self._parts.metrics, self._parts.tracer, started, facts, deadline_s
        )

    async def collect(self, answer: Answer, form: AnswerFormat) -> dict[str, Any]:
        """The whole answer as JSON. Raises ApiError."""
        choices = [Choice() for _ in range(answer.num_choices)]
        async for delta in answer.stream:
            answer.account(delta)
            choices[delta.index].add(delta)
        if not answer.is_complete:
            raise EngineError("The engine ended this request without an answer.")
        return form.whole(choices, answer)

    async def _events(self, answer: Answer, form: AnswerFormat) -> AsyncGenerator[bytes, None]:
        """Ends with the format's closing, or with an error event; never without a word."""
        try:
            for event in form.opening(answer):
                yield event
            async for delta in _with_keep_alive(answer.stream):
                if delta is None:
                    yield KEEP_ALIVE
                    continue
                answer.account(delta)
                for event in form.piece(delta, answer):
                    yield event
            for event in form.closing(answer):
                yield event
        except Exception as error:
            yield form.failure(self._explain(error, answer))

    def _explain(self, error: Exception, answer: Answer) -> ApiError:
        """A failure inside a running stream, as what to tell the client."""
        if not isinstance(error, ApiError):
            logger.exception("a stream failed")
            error = internal_error()
        answer.facts["error"] = error.code
        self._parts.metrics.request_failure.labels(error.code).inc()
        return error


async def _with_keep_alive(stream: CompletionStream) -> AsyncGenerator[TextDelta | None, None]:
    """The deltas, and None whenever there was none for a while."""
    deltas = aiter(stream)
    while True:
        try:
            async with asyncio.timeout(KEEP_ALIVE_S):
                delta = await anext(deltas)
        except StopAsyncIteration:
            return
        except TimeoutError:
            yield None
            continue
        yield delta
