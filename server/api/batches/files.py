"""/v1/files: the input of batches, and what came of them."""

from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from server.api.batches.house import BatchHouse
from server.api.batches.pages import ListQuery, page, read_query
from server.api.batches.upload import read_upload
from server.api.parts import Parts
from server.batches.database import Database
from server.batches.types import StoredFile
from server.errors import (
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    PayloadTooLargeError,
)

MAX_UPLOADS = 8  # at a time; each may fill a temporary file


class FilesQuery(ListQuery):
    limit: int = Field(10_000, ge=1, le=10_000)
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


class FilesService:
    def __init__(self, parts: Parts, house: BatchHouse) -> None:
        self._settings = parts.settings
        self._house = house
        self._num_uploads = 0

    async def upload(self, http: Request) -> Response:
        """Keep a file."""
        await self.refuse_when_full()
        if self._num_uploads >= MAX_UPLOADS:
            raise OverloadedError("The server takes in many files already. Try again soon.")
        self._num_uploads += 1
        try:
            upload = await read_upload(http, self._settings.max_batch_file_bytes)
            with upload.content:
                file = await self._house.store.add(upload.content, upload.filename, "batch")
        finally:
            self._num_uploads -= 1
        return JSONResponse(_card(file))

    async def list(self, http: Request) -> Response:
        """The files, a page at a time."""
        query = read_query(FilesQuery, http)
        files = await self._house.store.do(
            Database.files,
            query.after,
            query.limit + 1,
            query.purpose,
            is_ascending=query.order == "asc",
        )
        return JSONResponse(page([_card(file) for file in files], query.limit))

    async def retrieve(self, http: Request) -> Response:
        """What is known of a file."""
        return JSONResponse(_card(await self.find(http.path_params["file_id"])))

    async def content(self, http: Request) -> Response:
        """A file as it is."""
        file = await self.find(http.path_params["file_id"])
        return FileResponse(self._house.store.path(file), media_type="application/octet-stream")

    async def delete(self, http: Request) -> Response:
        """Forget a file."""
        file = await self.find(http.path_params["file_id"])
        if not await self._house.store.remove(file):
            raise InvalidRequestError(
                "A batch that is not finished reads this file. Cancel the batch first.",
                code="file_in_use",
            )
        return JSONResponse({"id": file.id, "object": "file", "deleted": True})

    async def find(self, file_id: str, param: str | None = None) -> StoredFile:
        """Ids are looked up, never made into paths. Raises NotFoundError."""
        file = await self._house.store.do(Database.file, file_id)
        if file is None:
            raise file_not_found(param)
        return file

    async def refuse_when_full(self) -> None:
        """Raises PayloadTooLargeError."""
        num_bytes = await self._house.store.do(Database.num_file_bytes)
        if num_bytes >= self._settings.max_batch_dir_bytes:
            raise PayloadTooLargeError(
                "The server holds as many files as it may. Delete some first.",
                code="storage_full",
            )


def file_not_found(param: str | None) -> NotFoundError:
    return NotFoundError("There is no such file.", param=param, code="file_not_found")


def _card(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.num_bytes,
        "created_at": file.created_at,
        "expires_at": None,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
