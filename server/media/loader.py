"""The one gate for media: URL → bytes → decoder process → tiles with their content hash.

Every byte of media passes here, whatever field it came in. The event loop never decodes.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from model_runtime.checkpoint import TileProcessing
from model_runtime.protocol import TileSet
from server.errors import MediaError
from server.media.data_url import is_frame_list, read_data_url
from server.media.decoder_pool import DecoderPool
from server.media.fetcher import Fetcher
from server.media.jobs import DecodedTiles, DecodeJob, Limits, TileParams
from server.media.local_file import read_local_file
from server.media.settings import MediaSettings
from server.media.single_flight import SingleFlight
from server.media.tile_cache import TileCache
from server.media.types import LoadedMedia, MediaKind, MediaRequest
from server.media.url import invalid_url, scheme_of

_HASH_BYTES = 32


class MediaObserver(Protocol):
    """Hears what the media path does; metrics are its listener."""

    def on_fetch(self, seconds: float, num_bytes: int) -> None: ...

    def on_decode(self, seconds: float) -> None: ...

    def on_tile_cache(self, is_hit: bool) -> None: ...

    def on_failure(self, code: str) -> None: ...


class SilentObserver:
    def on_fetch(self, seconds: float, num_bytes: int) -> None: ...

    def on_decode(self, seconds: float) -> None: ...

    def on_tile_cache(self, is_hit: bool) -> None: ...

    def on_failure(self, code: str) -> None: ...


class MediaLoader:
    """Loads media parts for one checkpoint's processing parameters."""

    def __init__(
        self,
        settings: MediaSettings,
        processing: TileProcessing,
        observer: MediaObserver | None = None,
    ) -> None:
        self._settings = settings
        self._processing = processing
        self._observer = observer or SilentObserver()
        self._fetcher = Fetcher(settings)
        self._decoders = DecoderPool(settings.num_decoders, settings.decoder_memory_bytes)
        self._limits = _limits(settings)
        self._tiles = TileCache(settings.tile_cache_bytes)
        self._fetching: SingleFlight[bytes] = SingleFlight()
        self._decoding: SingleFlight[LoadedMedia] = SingleFlight()

    async def start(self) -> None:
        await self._decoders.start()

    async def stop(self) -> None:
        await self._fetcher.close()
        await self._decoders.stop()

    async def load_all(self, requests: Sequence[MediaRequest]) -> list[LoadedMedia]:
        """All parts at once, in order. The first failure cancels the rest and is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.load(request)) for request in requests]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def load(self, request: MediaRequest) -> LoadedMedia:
        """One part. Raises MediaError with a `media_…` code and the part's `param`."""
        try:
            job = self._job(request, await self._read(request))
            name = await asyncio.to_thread(_name, job)
            key = request.cache_salt.encode("utf-8", "surrogatepass") + b"\0" + name
            known = self._tiles.find(key)
            self._observer.on_tile_cache(known is not None)
            if known is not None:
                return known
            media = await self._decoding.run(
                key, lambda: self._decode(request, job, name), request.param
            )
            self._tiles.keep(key, media)
            return media
        except MediaError as error:
            self._observer.on_failure(error.code or "media_invalid")
            raise

    async def _decode(self, request: MediaRequest, job: DecodeJob, name: bytes) -> LoadedMedia:
        started = time.monotonic()
        timeout_s = self._settings.decode_timeout_s(request.kind)
        decoded = await self._decoders.decode(job, timeout_s, request.param)
        self._observer.on_decode(time.monotonic() - started)
        return await asyncio.to_thread(_pack, request.kind, name, decoded)

    async def _read(self, request: MediaRequest) -> list[bytes]:
        """The original bytes; several for a frame list."""
        limit = self._settings.max_bytes(request.kind)
        scheme = scheme_of(request.url)
        if scheme == "data":
            num_frames = self._settings.max_sampled_frames
            return await asyncio.to_thread(read_data_url, request, limit, num_frames)
        if scheme == "file" and (folder := self._settings.allowed_local_media_path):
            return [await asyncio.to_thread(read_local_file, request, folder, limit)]
        if scheme in ("http", "https"):
            key = (request.kind, request.url, request.cache_salt)
            fetched = self._fetching.run(key, lambda: self._fetch(request), request.param)
            return [await fetched]
        raise _bad_scheme(request)

    async def _fetch(self, request: MediaRequest) -> bytes:
        started = time.monotonic()
        data = await self._fetcher.fetch(request)
        self._observer.on_fetch(time.monotonic() - started, len(data))
        return data

    def _job(self, request: MediaRequest, data: list[bytes]) -> DecodeJob:
        processing = self._processing
        max_tiles = min(request.max_tiles or processing.max_tiles, processing.max_tiles)
        tiles = TileParams(
            width=processing.tile_width,
            height=processing.tile_height,
            min_tiles=min(processing.min_tiles, max_tiles),
            max_tiles=max_tiles,
            resample=processing.resample,
        )
        kind = "frames" if is_frame_list(request.url) else request.kind
        num_frames = request.num_frames or processing.num_frames
        return DecodeJob(kind, data, tiles, self._limits, num_frames, request.fps)


def _name(job: DecodeJob) -> bytes:
    """A digest of the bytes and of all that shapes the tiles."""
    digest = hashlib.blake2b(digest_size=_HASH_BYTES)
    for part in job.data:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    digest.update(msgspec.msgpack.encode((job.kind, job.tiles, job.num_frames, job.fps)))
    return digest.digest()


def _pack(kind: MediaKind, name: bytes, decoded: DecodedTiles) -> LoadedMedia:
    """Each tile set is named by its media and its place in it."""
    tile_sets = [
        TileSet(_tile_set_name(name, index), num_tiles, pixels)
        for index, (num_tiles, pixels) in enumerate(
            zip(decoded.num_tiles, decoded.pixels, strict=True)
        )
    ]
    return LoadedMedia(kind, tuple(tile_sets))


def _tile_set_name(name: bytes, index: int) -> bytes:
    return hashlib.blake2b(name + index.to_bytes(4, "big"), digest_size=_HASH_BYTES).digest()


def _limits(settings: MediaSettings) -> Limits:
    return Limits(
        max_pixels=settings.max_image_pixels,
        max_side=settings.max_image_side,
        max_aspect_ratio=settings.max_aspect_ratio,
        max_jpeg_scans=settings.max_jpeg_scans,
        max_video_pixels=settings.max_video_pixels,
        max_video_frames=settings.max_video_frames,
        max_duration_s=settings.max_video_duration_s,
        max_sampled_frames=settings.max_sampled_frames,
    )


def _bad_scheme(request: MediaRequest) -> MediaError:
    if not request.url:
        return invalid_url(request.param)
    return MediaError(
        "The media URL must begin with http:, https: or data:.",
        param=request.param,
        code="media_url_scheme",
    )
