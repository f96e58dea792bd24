"""A thousand damaged pictures and three hundred damaged videos: each is shown or refused, in time,
and nothing is left of it."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
import pytest_asyncio

from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from server.media.types import MediaKind, MediaRequest
from tests.server.media.clips import Clip
from tests.server.media.conftest import PROCESSING
from tests.server.media.gate import OK, media, outcomes
from tests.server.media.makers import data_url, encoded, photo
from tests.server.media.processes import children, memory_peak, memory_used, num_descriptors

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETTINGS = MediaSettings(
    num_decoders=2, image_decode_timeout_s=5.0, video_decode_timeout_s=5.0, tile_cache_bytes=0
)
_BATCH = 50


def _pictures() -> list[bytes]:
    forms = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
    plain = [encoded(photo(90, 70), form) for form in forms]
    alpha, frames = photo(60, 60, "RGBA"), [photo(40, 40, seed=n) for n in range(3)]
    return [
        *plain,
        encoded(photo(90, 70), "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
        encoded(photo(90, 70, "CMYK"), "JPEG"),
        encoded(photo(60, 60, "P")),
        encoded(alpha, "WEBP", lossless=True),
        *(encoded(frames[0], form, save_all=True, append_images=frames[1:])
          for form in ("GIF", "WEBP", "PNG")),
    ]  # fmt: skip


def _videos() -> list[bytes]:
    return [
        Clip(16)(),
        Clip(16, options={"bf": "3"}, container="matroska")(),
        Clip(16, codec="libvpx-vp9", container="webm")(),
        Clip(16, codec="libvpx", container="webm")(),
        Clip(16, codec="libx265")(),
        Clip(16, codec="libsvtav1")(),
        Clip(16, codec="mpeg4", container="avi")(),
        Clip(16, muxing={"movflags": "frag_keyframe+empty_moov"})(),
    ]


def _mutated(original: bytes, chance: random.Random) -> bytes:
    """Bytes changed (headers rather than pixels), a piece lost, doubled, or the end cut."""
    data = bytearray(original)
    reach = chance.choice([64, 400, len(data)])
    for _ in range(chance.randint(1, 20)):
        data[chance.randrange(min(reach, len(data)))] = chance.choice(
            [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
        )
    at, length = chance.randrange(len(data)), chance.randint(1, 200)
    match chance.randrange(6):
        case 0:
            del data[at : at + length]
        case 1:
            data[at:at] = data[at : at + length]
        case 2:
            del data[at:]
    return bytes(data)


def _requests(
    kind: MediaKind, make: Callable[[], Sequence[bytes]], count: int
) -> list[MediaRequest]:
    chance, originals = random.Random(41), make()
    chosen = [originals[n % len(originals)] for n in range(count)]
    urls = [data_url(_mutated(each, chance), f"{kind}/x") for each in chosen]
    return [media(kind, url) for url in urls]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate() -> AsyncIterator[MediaLoader]:
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    good = [media("image", data_url(each)) for each in _pictures()]
    good += [media("video", data_url(each, "video/mp4")) for each in _videos()]
    assert {each.code for each in await outcomes(loader, good, 10)} == {OK}
    yield loader
    await loader.stop()


@pytest.mark.parametrize(
    ("kind", "make", "count"), [("image", _pictures, 1000), ("video", _videos, 300)]
)
async def test_i41_v29_damage_is_shown_or_refused(
    gate: MediaLoader, kind: MediaKind, make: Callable[[], Sequence[bytes]], count: int
) -> None:
    requests = _requests(kind, make, count)
    processes, descriptors, memory = len(children()), num_descriptors(), memory_used()
    decoders = {decoder.pid for decoder in gate._processor._decoders._all}
    found: Counter[str] = Counter()
    deadline = SETTINGS.decode_timeout_s(kind)
    for at in range(0, count, _BATCH):
        batch = await outcomes(gate, requests[at : at + _BATCH], 2 * deadline)
        found.update(each.code for each in batch)
    await asyncio.sleep(0.5)  # lost decoders are replaced meanwhile
    assert found.total() == count
    assert all(code == OK or code.startswith("media_") for code in found), found
    assert found[OK] > count // 20 and count - found[OK] > count // 5, found
    lost = decoders - {decoder.pid for decoder in gate._processor._decoders._all}
    assert len(lost) <= found["media_too_complex"]
    assert len(children()) == processes
    assert num_descriptors() <= descriptors + 2
    assert memory_used() - memory < 50 << 20
    for decoder in gate._processor._decoders._all:
        assert memory_peak(decoder.pid) < SETTINGS.decoder_memory_bytes
    assert gate.budget.num_bytes == 0
