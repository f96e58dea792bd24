"""The media of one request: measured together, then decoded together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from model_runtime.protocol import TileSet
from server.errors import MediaError
from server.media.processor import MediaProcessor, PlannedItem
from server.media.types import LoadedMedia, PlannedMedia

T = TypeVar("T")
R = TypeVar("R")
_MAX_AT_A_TIME = 2  # of one request's parts at the decoders: others get their turn in between


class MediaBatch:
    def __init__(self, items: Sequence[PlannedItem], processor: MediaProcessor) -> None:
        self._items = items
        self._processor = processor

    @property
    def planned(self) -> list[PlannedMedia]:
        """In the request's order."""
        return [item.planned for item in self._items]

    async def decode(self) -> list[LoadedMedia]:
        """In the request's order. What appears twice is decoded once."""
        distinct = {item.name: item for item in self._items}
        loaded = await gather_few(list(distinct.values()), self._processor.decode)
        by_name = dict(zip(distinct, loaded, strict=True))
        return [by_name[item.name] for item in self._items]

    async def load(self) -> list[TileSet]:
        """The pixels: each content hash once."""
        loaded = await self.decode()
        return list({t.content_hash: t for media in loaded for t in media.tile_sets}.values())


def check_pixels(items: Sequence[PlannedItem], max_pixels: int) -> None:
    """Raises MediaError that names the part with which it is too much."""
    total = 0
    for item in items:
        total += item.num_pixels
        if total > max_pixels:
            raise MediaError(
                f"The request's media have more than {max_pixels // 1_000_000} megapixels "
                "together.",
                param=item.request.param,
                code="media_dimensions",
            )


async def gather_few(items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Results in order, few at a time. The first failure cancels the rest and is raised."""
    turns = asyncio.Semaphore(_MAX_AT_A_TIME)

    async def in_turn(item: T) -> R:
        async with turns:
            return await work(item)

    return await gather_all(items, in_turn)


async def gather_all(items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Results in order. The first failure cancels the rest and is raised."""

    async def run(item: T) -> R:
        return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(item)) for item in items]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
