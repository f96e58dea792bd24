"""A file of a multipart form, to disk as it comes, under limits."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from server.api.connection import ClientGoneError
from server.errors import (
    InvalidRequestError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    UnsupportedParameterError,
)

MAX_FILENAME_CHARS = 255
_FORM_BYTES = 1 << 16  # the form around the file
_FIELDS = {"file", "purpose"}


@dataclass(frozen=True, slots=True)
class Upload:
    """`content` is in memory or in a temporary file; whoever has it closes it."""

    filename: str
    content: BinaryIO


async def read_upload(http: Request, max_bytes: int) -> Upload:
    """Raises InvalidRequestError, PayloadTooLargeError, UnsupportedMediaTypeError,
    ClientGoneError."""
    form = await _read_form(http, max_bytes)
    try:
        return _upload(form)
    except BaseException:
        await form.close()
        raise


async def _read_form(http: Request, max_bytes: int) -> FormData:
    if not http.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaTypeError("Send the file as multipart/form-data.")
    if http.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMediaTypeError(
            "Compressed bodies are not supported.", code="unsupported_encoding"
        )
    announced = http.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes + _FORM_BYTES:
        raise _too_large(max_bytes)
    parser = MultiPartParser(
        http.headers, _bounded(http, max_bytes), max_files=1, max_fields=8, max_part_size=4096
    )
    try:
        return await parser.parse()
    except MultiPartException:
        raise InvalidRequestError(
            "The form cannot be read: it has one file, in the field file, and short fields.",
            code="invalid_form",
        ) from None


async def _bounded(http: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    num_bytes = 0
    try:
        async for chunk in http.stream():
            num_bytes += len(chunk)
            if num_bytes > max_bytes + _FORM_BYTES:
                raise _too_large(max_bytes)
            yield chunk
    except ClientDisconnect as error:
        raise ClientGoneError from error


def _upload(form: FormData) -> Upload:
    if form.keys() - _FIELDS:
        raise UnsupportedParameterError("Only file and purpose are supported.", param="form")
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise InvalidRequestError(
            "Field required: a file.", param="file", code="missing_required_parameter"
        )
    if purpose is None:
        raise InvalidRequestError(
            "Field required.", param="purpose", code="missing_required_parameter"
        )
    if purpose != "batch":
        raise InvalidRequestError(
            "This server takes files for batches only: purpose must be batch.",
            param="purpose",
            code="invalid_value",
        )
    return Upload((file.filename or "upload.jsonl")[:MAX_FILENAME_CHARS], file.file)


def _too_large(max_bytes: int) -> PayloadTooLargeError:
    return PayloadTooLargeError(f"A file has at most {max_bytes >> 20} MiB.", param="file")
