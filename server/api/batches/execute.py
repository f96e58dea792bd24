"""Lines of batches through the endpoints' own parts, without HTTP and behind everybody."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from server.api.answer import Answer
from server.api.answering import AnswerFormat, Answering
from server.api.parse import parse_json
from server.api.parts import Parts
from server.api.schemas import MAX_PRIORITY, SamplingFields
from server.api.translate import check_model
from server.api.wire import error_body
from server.batches.types import LineAnswer
from server.errors import (
    ApiError,
    EngineError,
    InvalidRequestError,
    UnavailableError,
    internal_error,
)

logger = logging.getLogger(__name__)
_BEHIND_ALL = 3 * MAX_PRIORITY  # with any wish of its own still behind any live request's
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 2.0

R = TypeVar("R", bound=SamplingFields)


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[R]):
    """An endpoint's parts: bytes' JSON → request → engine → JSON."""

    parse: Callable[[dict[str, Any]], R]
    begin: Callable[[R, Answer], Coroutine[Any, Any, None]]
    form: Callable[[R, Parts, str], AnswerFormat]


class LineExecutor:
    def __init__(
        self, parts: Parts, answering: Answering, endpoints: Mapping[Any, Endpoint[Any]]
    ) -> None:
        self._parts = parts
        self._answering = answering
        self._endpoints = endpoints

    async def execute(self, endpoint: str, body: bytes) -> LineAnswer:
        """What the endpoint says to the body. Never fails; waits while the server is full."""
        request_id = uuid.uuid4().hex
        try:
            content = await self._patiently(self._endpoints[endpoint], body, request_id)
        except ApiError as error:
            self._parts.metrics.request_failure.labels(error.code).inc()
            return LineAnswer(error.status, request_id, error_body(error))
        except Exception:
            logger.exception("a line of a batch failed")
            bug = internal_error()
            return LineAnswer(bug.status, request_id, error_body(bug))
        return LineAnswer(200, request_id, content)

    async def _patiently(
        self, endpoint: Endpoint[Any], body: bytes, request_id: str
    ) -> dict[str, Any]:
        """Again while the server is full or loads; once more when the worker died under it."""
        wait_s, is_suspect = _FIRST_WAIT_S, False
        while True:
            try:
                with self._parts.media.budget.loan() as loan:
                    loan.take(len(body))
                    return await self._answer(endpoint, body, request_id)
            except UnavailableError:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            except EngineError:
                if is_suspect:
                    raise
                is_suspect = True

    async def _answer(
        self, endpoint: Endpoint[Any], body: bytes, request_id: str
    ) -> dict[str, Any]:
        request = endpoint.parse(await asyncio.to_thread(parse_json, body))
        check_model(request.model, self._parts.model_name)
        if request.stream:
            raise InvalidRequestError(
                "Lines of a batch are not streamed.", param="stream", code="invalid_value"
            )
        priority = _BEHIND_ALL + (request.priority or 0)
        request = request.model_copy(update={"priority": priority})
        answer = self._answering.admit(request_id, {})
        try:
            await endpoint.begin(request, answer)
            form = endpoint.form(request, self._parts, request_id)
            return await self._answering.collect(answer, form)
        finally:
            answer.end()
