"""Lines of batches through the endpoints' own parts, without HTTP and behind everybody."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from server.api.answering import Answering, Work
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


Endpoint = Callable[[dict[str, Any], str], Work]  # (a line's body, request id)


def behind_all(request: R, model_name: str) -> R:
    """As a line of a batch. Raises InvalidRequestError, NotFoundError."""
    check_model(request.model, model_name)
    if request.stream:
        raise InvalidRequestError(
            "Lines of a batch are not streamed.", param="stream", code="invalid_value"
        )
    return request.model_copy(update={"priority": _BEHIND_ALL + (request.priority or 0)})


class LineExecutor:
    def __init__(
        self, parts: Parts, answering: Answering, endpoints: Mapping[Any, Endpoint]
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

    async def _patiently(self, endpoint: Endpoint, body: bytes, request_id: str) -> dict[str, Any]:
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

    async def _answer(self, endpoint: Endpoint, body: bytes, request_id: str) -> dict[str, Any]:
        content = await asyncio.to_thread(parse_json, body)
        work = endpoint(content, request_id)
        answer = self._answering.admit(request_id, {})
        try:
            await work.begin(answer)
            return await self._answering.collect(answer, work.form)
        finally:
            answer.end()
