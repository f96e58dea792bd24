"""/v1/batches: many requests as one file, answered when there is time."""

import time
import uuid
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from server.api.answering import Answering
from server.api.batches.files import FilesService, file_not_found
from server.api.batches.house import BatchHouse
from server.api.batches.pages import ListQuery, page, read_query
from server.api.batches.schemas import BatchRequest
from server.api.parse import parse_json, validated
from server.batches.database import Database
from server.batches.types import Batch
from server.errors import (
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    UnsupportedParameterError,
)

MAX_UNFINISHED = 100
_WINDOW_S = 24 * 3600
_MOMENTS = (
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)


class BatchesService:
    def __init__(self, answering: Answering, house: BatchHouse, files: FilesService) -> None:
        self._answering = answering
        self._house = house
        self._files = files

    async def create(self, http: Request) -> Response:
        """Run a file of requests."""
        runner = self._house.runner
        request = _batch_request(await self._answering.read(http, parse_json))
        await self._files.refuse_when_full()
        file = await self._files.find(request.input_file_id, "input_file_id")
        if file.purpose != "batch":
            raise InvalidRequestError(
                "This file was not uploaded for a batch.",
                param="input_file_id",
                code="invalid_value",
            )
        if runner.num_unfinished >= MAX_UNFINISHED:
            raise OverloadedError("Too many batches are not finished. Try again later.")
        batch = _new_batch(request)
        if not await self._house.store.do(Database.add_batch, batch):
            raise file_not_found("input_file_id")
        runner.add(batch.id)
        return JSONResponse(_card(batch))

    async def list(self, http: Request) -> Response:
        """The batches, a page at a time."""
        query = read_query(ListQuery, http)
        batches = await self._house.store.do(Database.batches, query.after, query.limit + 1)
        return JSONResponse(page([_card(batch) for batch in batches], query.limit))

    async def retrieve(self, http: Request) -> Response:
        """How a batch fares."""
        return JSONResponse(_card(await self._find(http)))

    async def cancel(self, http: Request) -> Response:
        """End a batch; what is done stays."""
        batch = await self._find(http)
        is_moved = await self._house.store.do(
            Database.move, batch.id, ("validating", "in_progress"), "cancelling"
        )
        batch = await self._find(http)
        if not is_moved and batch.status not in ("cancelling", "cancelled"):
            raise InvalidRequestError(
                f"A batch with the status {batch.status} cannot be cancelled.",
                code="batch_not_cancellable",
            )
        self._house.runner.cancel(batch.id)
        return JSONResponse(_card(batch))

    async def _find(self, http: Request) -> Batch:
        batch = await self._house.store.do(Database.batch, http.path_params["batch_id"])
        if batch is None:
            raise NotFoundError("There is no such batch.", code="batch_not_found")
        return batch


def _batch_request(content: dict[str, Any]) -> BatchRequest:
    """Raises InvalidRequestError."""
    if content.get("output_expires_after") is not None:
        raise UnsupportedParameterError(
            "Files stay until they are deleted.", param="output_expires_after"
        )
    request = validated(BatchRequest, content)
    if not request.has_fine_metadata:
        raise InvalidRequestError(
            "metadata has at most 16 pairs of strings, keys of 64 and values of 512 characters.",
            param="metadata",
            code="invalid_value",
        )
    return request


def _new_batch(request: BatchRequest) -> Batch:
    now = int(time.time())
    return Batch(
        id=f"batch_{uuid.uuid4().hex}",
        endpoint=request.endpoint,
        input_file_id=request.input_file_id,
        created_at=now,
        expires_at=now + _WINDOW_S,
        metadata=request.metadata,
    )


def _card(batch: Batch) -> dict[str, Any]:
    problems = [asdict(problem) for problem in batch.problems]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        **{f"{moment}_at": batch.times.get(moment) for moment in _MOMENTS},
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": batch.metadata,
    }
