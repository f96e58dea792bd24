from collections.abc import Iterator, Sequence

import pytest

from model_runtime.checkpoint import TileProcessing
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from server.media.types import LoadedMedia, MediaRequest
from tests.site import Site

PROCESSING = TileProcessing(
    tile_height=56,
    tile_width=56,
    min_tiles=1,
    max_tiles=12,
    tokens_per_tile=4,
    resample=3,
    rescale_factor=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    num_frames=8,
)
SETTINGS = MediaSettings(
    allowed_media_networks=("127.0.0.0/8",),
    image_fetch_timeout_s=2.0,
    image_decode_timeout_s=5.0,
    max_image_bytes=1 << 20,
)


async def load_all(loader: MediaLoader, requests: Sequence[MediaRequest]) -> list[LoadedMedia]:
    """Planned, then decoded; what was planned is what comes."""
    async with loader.open(requests) as batch:
        loaded = await batch.decode()
    for planned, media in zip(batch.planned, loaded, strict=True):
        assert [(t.content_hash, t.num_tiles) for t in planned.tile_sets] == [
            (t.content_hash, t.num_tiles) for t in media.tile_sets
        ]
    return loaded


async def load(loader: MediaLoader, request: MediaRequest) -> LoadedMedia:
    (media,) = await load_all(loader, [request])
    return media


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()
