"""What every row of the corpora is held against: one outcome, told in OpenAI's words, in time.

The only place that knows how a loader is called.
"""

import asyncio
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.errors import MediaError
from server.media.loader import MediaLoader
from server.media.types import LoadedMedia, MediaKind, MediaRequest
from tests.server.media.conftest import load_all

OK = "ok"
INVALID = "media_url_invalid"
SCHEME = "media_url_scheme"
BLOCKED = "media_url_blocked"
FETCH = "media_fetch_failed"
LARGE = "media_too_large"
TYPE = "media_unsupported_type"
CODEC = "media_unsupported_codec"
DECODE = "media_decode_failed"
SIZE = "media_dimensions"
COMPLEX = "media_too_complex"
LONG = "media_too_long"

PARAM = "messages[0].content[0]"
_SLACK_S = 2.0  # a busy machine; rows with bounds of their own say so
# Addresses of the network and of memory, paths, names of files and exceptions.
_LEAK = re.compile(r"\d+\.\d+\.\d+\.\d+|0x[0-9a-f]{4}|/\w+/|\.png|Error|Errno|Traceback|object at")


@dataclass(frozen=True, slots=True)
class Row:
    """One concrete input of a table's row: the codes it may end with."""

    id: str
    codes: tuple[str, ...]
    value: Any = field(repr=False)


def rows(name: str, codes: str | tuple[str, ...], *values: Any) -> list[Row]:
    """`U02` with three inputs becomes U02.1 to U02.3."""
    allowed = (codes,) if isinstance(codes, str) else codes
    if len(values) == 1:
        return [Row(name, allowed, values[0])]
    return [Row(f"{name}.{n}", allowed, value) for n, value in enumerate(values, 1)]


def ids(row: Any) -> str:
    return row.id if isinstance(row, Row) else str(row)


def media(kind: MediaKind, url: str, **options: Any) -> MediaRequest:
    return MediaRequest(kind, url, f"{PARAM}.{kind}_url.url", **options)


@dataclass(frozen=True, slots=True)
class Outcome:
    code: str
    message: str
    seconds: float
    loaded: LoadedMedia | None = field(default=None, repr=False)


async def outcome(loader: MediaLoader, request: MediaRequest, within_s: float = 5.0) -> Outcome:
    """Success or a MediaError that keeps the rules; anything else is a failed test."""
    (only,) = await outcomes(loader, [request], within_s)
    return only


async def outcomes(
    loader: MediaLoader, requests: Sequence[MediaRequest], within_s: float
) -> list[Outcome]:
    """Each as a request of its own, all at the same time."""
    return list(await asyncio.gather(*(_outcome(loader, each, within_s) for each in requests)))


async def _outcome(loader: MediaLoader, request: MediaRequest, within_s: float) -> Outcome:
    started = time.monotonic()
    try:
        async with asyncio.timeout(within_s + _SLACK_S):
            (loaded,) = await load_all(loader, [request])
    except MediaError as error:
        assert error.status == 400 and error.param == request.param
        check_message(error.message)
        return Outcome(error.code or "", error.message, time.monotonic() - started)
    return Outcome(OK, "", time.monotonic() - started, loaded)


async def check(
    loader: MediaLoader, row: Row, request: MediaRequest, within_s: float = 5.0
) -> None:
    found = await outcome(loader, request, within_s)
    assert found.code in row.codes, f"{row.id}: {found.code}, wanted {row.codes}"


def check_message(message: str) -> None:
    """Fixed words: nothing of the input, of the machine or of another library's exception."""
    assert message and len(message) < 200 and not _LEAK.search(message), message


def table(*groups: Iterable[Row]) -> list[Row]:
    found = [row for group in groups for row in group]
    assert len({row.id for row in found}) == len(found), "a row's id is there twice"
    return found
