"""The one gate for media: URL → bytes → measured by its header → budgets → decoded to tiles.

Every byte of media passes here, whatever field it came in. The event loop never decodes.
"""

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from model_runtime.checkpoint import TileProcessing
from server.errors import MediaError
from server.media.batch import MediaBatch, check_pixels, gather_all
from server.media.budget import ByteBudget, ByteLoan
from server.media.observer import MediaObserver, SilentObserver
from server.media.processor import MediaProcessor, PlannedItem
from server.media.reader import MediaReader
from server.media.settings import MediaSettings
from server.media.types import MediaRequest

_NUM_THREADS = 4  # for base64, hashes and local files; names are resolved elsewhere


class MediaLoader:
    """Loads media parts for one checkpoint's processing parameters."""

    def __init__(
        self,
        settings: MediaSettings,
        processing: TileProcessing,
        observer: MediaObserver | None = None,
    ) -> None:
        self._settings = settings
        self._observer = observer or SilentObserver()
        self.budget = ByteBudget(settings.max_bytes_in_flight)
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="media")
        self._reader = MediaReader(settings, self.budget, self._threads, self._observer)
        self._processor = MediaProcessor(settings, processing, self._threads, self._observer)

    async def start(self) -> None:
        await self._processor.start()

    async def stop(self) -> None:
        await self._reader.close()
        await self._processor.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def open(self, requests: Sequence[MediaRequest]) -> AsyncIterator[MediaBatch]:
        """All parts, fetched and measured. Their bytes are held until the block ends.

        Raises MediaError with a `media_…` code and the part's `param`, OverloadedError; the first
        failure cancels the rest.
        """
        with self.budget.loan() as loan:
            try:
                items = await gather_all(requests, lambda request: self._plan(request, loan))
                check_pixels(items, self._settings.max_request_pixels)
                yield MediaBatch(items, self._processor)
            except MediaError as error:
                self._observer.on_failure(error.code or "media_invalid")
                raise

    async def _plan(self, request: MediaRequest, loan: ByteLoan) -> PlannedItem:
        return await self._processor.plan(request, await self._reader.read(request, loan))
