"""Table V: videos that lead elsewhere, lie, explode or are none."""

import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
import pytest_asyncio

from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from server.media.types import MediaRequest
from tests.server.media import corpus_videos as corpus
from tests.server.media.canary import Canaries
from tests.server.media.clips import Clip
from tests.server.media.conftest import PROCESSING
from tests.server.media.gate import COMPLEX, DECODE, OK, SIZE, TYPE, Row, check, ids, media, outcome
from tests.server.media.makers import data_url
from tests.server.media.processes import memory_peak

pytestmark = pytest.mark.asyncio(loop_scope="module")
SETTINGS = MediaSettings(
    num_decoders=1,
    max_video_frames=corpus.MAX_VIDEO_FRAMES,
    max_video_bytes=corpus.MAX_VIDEO_BYTES,
    video_decode_timeout_s=8.0,
)
GOOD = Clip(12)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate() -> AsyncIterator[MediaLoader]:
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canaries]:
    """Decoders are started in the folder of the canary file, so that relative names work."""
    folder = tmp_path_factory.mktemp("canaries")
    canaries = Canaries(folder)
    yield canaries
    canaries.close()


def video(data: bytes) -> MediaRequest:
    return media("video", data_url(data, "video/mp4"))


def decoder_pid(gate: MediaLoader) -> int:
    (decoder,) = gate._processor._decoders._all
    return decoder.pid


@pytest.mark.parametrize("row", [*corpus.BOMBS, *corpus.TIMES, *corpus.CODECS], ids=ids)
async def test_videos(gate: MediaLoader, row: Row) -> None:
    """The outcome is the table's; the decoder lives, and its next clip is right."""
    pid = decoder_pid(gate)
    await check(gate, row, video(row.value()), SETTINGS.video_decode_timeout_s)
    assert decoder_pid(gate) == pid, "the decoder was lost"
    found = await outcome(gate, video(GOOD()))
    assert found.loaded is not None and len(found.loaded.tile_sets) == 8


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def beside_canaries(gate: MediaLoader, canaries: Canaries) -> AsyncIterator[MediaLoader]:
    where = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", where)
        patch.chdir(canaries.file.parent)
        loader = MediaLoader(SETTINGS, PROCESSING)
        await loader.start()
    yield loader
    await loader.stop()


async def test_v01_to_v06_playlists(beside_canaries: MediaLoader, canaries: Canaries) -> None:
    for data in corpus.playlists(canaries):
        for kind in ("video", "image"):
            request = replace(video(data), kind=kind)
            url = data_url(data, f"{kind}/mp4")
            assert (await outcome(beside_canaries, replace(request, url=url))).code == TYPE, data
    canaries.check_untouched()


async def test_v07_to_v09_containers_that_point_elsewhere(
    beside_canaries: MediaLoader, canaries: Canaries
) -> None:
    for name, codes, data in corpus.followed(canaries):
        assert (await outcome(beside_canaries, video(data))).code in codes, name
        canaries.check_untouched()
    found = await outcome(beside_canaries, video(GOOD()))
    assert found.code == OK


@pytest.mark.parametrize("name", ["V15", "V16", "V19.1", "V19.2", "V14.1", "V20.1", "V20.4"])
async def test_refused_at_once(gate: MediaLoader, name: str) -> None:
    (row,) = [row for row in corpus.BOMBS if row.id == name]
    assert (await outcome(gate, video(row.value()))).seconds < 1.0


async def test_bombs_take_little_memory() -> None:
    """8192x8192 would be 400 MB a picture, and 900 tracks 750 MB."""
    loader = MediaLoader(SETTINGS, PROCESSING)
    await loader.start()
    try:
        assert (await outcome(loader, video(GOOD()))).code == OK
        before = memory_peak(decoder_pid(loader))
        for name, codes in (("V10", {SIZE}), ("V14.1", {COMPLEX, DECODE}), ("V16", {DECODE})):
            (row,) = [row for row in corpus.BOMBS if row.id == name]
            assert (await outcome(loader, video(row.value()))).code in codes
        assert memory_peak(decoder_pid(loader)) - before < 100 << 20
    finally:
        await loader.stop()


async def test_the_table_is_whole() -> None:
    """V04 is in test_url_rows.py, V29 in test_mutations.py."""
    rows = [*corpus.BOMBS, *corpus.TIMES, *corpus.CODECS]
    there = {row.id.split(".")[0] for row in rows} | {"V29"} | {f"V{n:02}" for n in range(1, 10)}
    assert there == {f"V{n:02}" for n in range(1, 38)}
