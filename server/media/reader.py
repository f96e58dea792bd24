"""From a media URL to its bytes, whatever the scheme; identical URLs are fetched once."""

import asyncio
import time
from concurrent.futures import Executor

from server.errors import MediaError
from server.media.budget import ByteBudget, ByteLoan
from server.media.data_url import read_data_url
from server.media.fetcher import Fetcher
from server.media.local_file import read_local_file
from server.media.observer import MediaObserver
from server.media.settings import MediaSettings
from server.media.single_flight import SingleFlight
from server.media.types import MediaRequest
from server.media.url import invalid_url, scheme_of


class MediaReader:
    def __init__(
        self,
        settings: MediaSettings,
        budget: ByteBudget,
        threads: Executor,
        observer: MediaObserver,
    ) -> None:
        self._settings = settings
        self._budget = budget
        self._threads = threads
        self._observer = observer
        self._fetcher = Fetcher(settings)
        self._fetching: SingleFlight[bytes] = SingleFlight()

    async def close(self) -> None:
        await self._fetcher.close()

    async def read(self, request: MediaRequest, loan: ByteLoan) -> list[bytes]:
        """The original bytes; several for a frame list. Raises MediaError, OverloadedError."""
        data = await self._read(request)
        loan.take(sum(map(len, data)))
        if loan.num_bytes > self._settings.max_request_bytes:
            limit = self._settings.max_request_bytes >> 20
            raise MediaError(
                f"The request's media are larger than {limit} MiB together.",
                param=request.param,
                code="media_too_large",
            )
        return data

    async def _read(self, request: MediaRequest) -> list[bytes]:
        limit = self._settings.max_bytes(request.kind)
        run = asyncio.get_running_loop().run_in_executor
        scheme = scheme_of(request.url)
        if scheme == "data":
            max_frames = self._settings.max_sampled_frames
            return await run(self._threads, read_data_url, request, limit, max_frames)
        if scheme == "file" and (folder := self._settings.allowed_local_media_path):
            return [await run(self._threads, read_local_file, request, folder, limit)]
        if scheme in ("http", "https"):
            key = (request.kind, request.url, request.cache_salt)
            fetched = self._fetching.run(key, lambda: self._fetch(request), request.param)
            return [await fetched]
        raise _bad_scheme(request)

    async def _fetch(self, request: MediaRequest) -> bytes:
        """Counted while it arrives; afterwards by who waits for it."""
        started = time.monotonic()
        with self._budget.loan() as loan:
            data = await self._fetcher.fetch(request, loan)
        self._observer.on_fetch(time.monotonic() - started, len(data))
        return data


def _bad_scheme(request: MediaRequest) -> MediaError:
    if not request.url:
        return invalid_url(request.param)
    return MediaError(
        "The media URL must begin with http:, https: or data:.",
        param=request.param,
        code="media_url_scheme",
    )
