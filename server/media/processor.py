"""From bytes to tiles: measured by their headers first, decoded when the request is sure to run.

Both happen in the decoder processes. Known media is neither measured nor decoded again.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from model_runtime.checkpoint import TileProcessing
from model_runtime.protocol import TileSet
from server.errors import MediaError
from server.media.data_url import is_frame_list
from server.media.decoder_pool import DecoderPool, undecodable_media
from server.media.jobs import (
    DecodedTiles,
    DecodeJob,
    Limits,
    Measured,
    MeasureJob,
    MediaSource,
    TileParams,
    WantedFrame,
)
from server.media.observer import MediaObserver
from server.media.settings import MediaSettings
from server.media.single_flight import SingleFlight
from server.media.tile_cache import TileCache
from server.media.types import LoadedMedia, MediaRequest, PlannedMedia, PlannedTiles

T = TypeVar("T")
_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One part between measuring and decoding."""

    request: MediaRequest
    source: MediaSource
    name: bytes
    planned: PlannedMedia
    num_pixels: int  # to decode
    frames: list[WantedFrame]
    known: LoadedMedia | None  # decoded already


class MediaProcessor:
    def __init__(
        self,
        settings: MediaSettings,
        processing: TileProcessing,
        threads: Executor,
        observer: MediaObserver,
    ) -> None:
        self._settings = settings
        self._processing = processing
        self._threads = threads
        self._observer = observer
        self._limits = limits_of(settings)
        self._decoders = DecoderPool(
            settings.num_decoders, settings.decoder_memory_bytes, observer.on_wait
        )
        self._tiles = TileCache(settings.tile_cache_bytes)
        self._measuring: SingleFlight[Measured] = SingleFlight()
        self._decoding: SingleFlight[LoadedMedia] = SingleFlight()

    async def start(self) -> None:
        await self._decoders.start()

    async def stop(self) -> None:
        await self._decoders.stop()

    async def plan(self, request: MediaRequest, data: list[bytes]) -> PlannedItem:
        """What the part will be. Raises MediaError."""
        source = self._source(request, data)
        name = await self._in_thread(_name, source, request.cache_salt)
        known = self._tiles.find(name)
        self._observer.on_tile_cache(known is not None)
        if known is not None:
            return _known_item(request, source, name, known)
        measured = await self._measuring.run(
            name, lambda: self._measure(request, source), request.param
        )
        tile_sets = tuple(
            PlannedTiles(_tile_set_name(name, index), num_tiles)
            for index, num_tiles in enumerate(measured.num_tiles)
        )
        planned = PlannedMedia(request.kind, tile_sets)
        return PlannedItem(
            request, source, name, planned, measured.num_pixels, measured.frames, None
        )

    async def decode(self, item: PlannedItem) -> LoadedMedia:
        """The planned tiles with their pixels. Raises MediaError."""
        if item.known is not None:
            return item.known
        media = await self._decoding.run(item.name, lambda: self._decode(item), item.request.param)
        self._tiles.keep(item.name, media)
        return media

    async def _measure(self, request: MediaRequest, source: MediaSource) -> Measured:
        timeout_s = self._settings.decode_timeout_s(request.kind)
        measured = await self._decoders.run(MeasureJob(source), timeout_s, request.param)
        assert isinstance(measured, Measured)
        _check_counts(measured, source, request.param)
        return measured

    async def _decode(self, item: PlannedItem) -> LoadedMedia:
        started = time.monotonic()
        request, job = item.request, DecodeJob(item.source, item.frames)
        timeout_s = self._settings.decode_timeout_s(request.kind)
        decoded = await self._decoders.run(job, timeout_s, request.param)
        assert isinstance(decoded, DecodedTiles)
        self._observer.on_decode(time.monotonic() - started)
        return await self._in_thread(self._checked, item, decoded)

    def _checked(self, item: PlannedItem, decoded: DecodedTiles) -> LoadedMedia:
        """The prompt counts on what the header announced."""
        tile_bytes = self._processing.tile_width * self._processing.tile_height * 3
        planned = item.planned.tile_sets
        sizes = [len(pixels) for pixels in decoded.pixels]
        if sizes != [tiles.num_tiles * tile_bytes for tiles in planned]:
            raise MediaError(
                "The media is not what its header announces.",
                param=item.request.param,
                code="media_decode_failed",
            )
        tile_sets = tuple(
            TileSet(tiles.content_hash, tiles.num_tiles, pixels)
            for tiles, pixels in zip(planned, decoded.pixels, strict=True)
        )
        return LoadedMedia(item.request.kind, tile_sets)

    def _source(self, request: MediaRequest, data: list[bytes]) -> MediaSource:
        processing = self._processing
        max_tiles = min(request.max_tiles or processing.max_tiles, processing.max_tiles)
        tiles = TileParams(
            width=processing.tile_width,
            height=processing.tile_height,
            min_tiles=min(processing.min_tiles, max_tiles),
            max_tiles=max_tiles,
            resample=processing.resample,
            is_exact=self._settings.exact_resize,
        )
        return MediaSource(
            kind="frames" if is_frame_list(request.url) else request.kind,
            data=data,
            tiles=tiles,
            limits=self._limits,
            num_frames=request.num_frames or processing.num_frames,
            fps=request.fps,
            start_s=request.start_s,
            end_s=request.end_s,
        )

    async def _in_thread(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *arguments)


def _known_item(
    request: MediaRequest, source: MediaSource, name: bytes, known: LoadedMedia
) -> PlannedItem:
    tile_sets = tuple(PlannedTiles(t.content_hash, t.num_tiles) for t in known.tile_sets)
    return PlannedItem(request, source, name, PlannedMedia(known.kind, tile_sets), 0, [], known)


def _name(source: MediaSource, salt: str) -> bytes:
    """A digest of the bytes, of all that shapes the tiles, and of who may share them."""
    digest = hashlib.blake2b(digest_size=_HASH_BYTES)
    for part in source.data:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    wanted = (source.num_frames, source.fps, source.start_s, source.end_s)
    digest.update(msgspec.msgpack.encode((source.kind, source.tiles, wanted)))
    digest.update(salt.encode("utf-8", "surrogatepass"))
    return digest.digest()


def _tile_set_name(name: bytes, index: int) -> bytes:
    """Each tile set is named by its media and its place in it."""
    return hashlib.blake2b(name + index.to_bytes(4, "big"), digest_size=_HASH_BYTES).digest()


def limits_of(settings: MediaSettings) -> Limits:
    """What the decoders are told."""
    return Limits(
        max_pixels=settings.max_image_pixels,
        max_side=settings.max_image_side,
        max_aspect_ratio=settings.max_aspect_ratio,
        max_jpeg_scans=settings.max_jpeg_scans,
        max_video_pixels=settings.max_video_pixels,
        max_video_frames=settings.max_video_frames,
        max_duration_s=settings.max_video_duration_s,
        max_sampled_frames=settings.max_sampled_frames,
        allows_avif=settings.allow_avif,
    )


def _check_counts(measured: Measured, source: MediaSource, param: str) -> None:
    """A decoder that hostile media took over may say anything; the prompt is built from this."""
    most = source.tiles.max_tiles + 1  # with the thumbnail
    counts = measured.num_tiles
    if not counts or not all(0 < count <= most for count in counts) or measured.num_pixels < 1:
        raise undecodable_media(param)
