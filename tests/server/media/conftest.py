from collections.abc import AsyncIterator, Iterator

import pytest

from model_runtime.checkpoint import TileProcessing
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
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


@pytest.fixture
async def loader() -> AsyncIterator[MediaLoader]:
    """Loopback is allowed, as an operator allows a private media server."""
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


@pytest.fixture
async def strict_loader() -> AsyncIterator[MediaLoader]:
    """As shipped: nothing private."""
    loader = MediaLoader(MediaSettings(), PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()
