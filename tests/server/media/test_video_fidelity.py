"""Frames equal those of a straight full decode, whatever the container, codec or order."""

import base64
import itertools
from collections.abc import AsyncIterator, Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import torch

from model_runtime.tiling import sample_frame_indices
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from tests.server.media import boxes
from tests.server.media.clips import Clip, moving_frame, swapped_packets, with_sound
from tests.server.media.conftest import PROCESSING, load
from tests.server.media.gate import media
from tests.server.media.makers import data_url, encoded, photo, rotated, turned
from tests.server.media.reference import reference_frames, reference_tiles, upright_rgb

pytestmark = pytest.mark.asyncio(loop_scope="module")
_PYRAMID = {"bf": "3", "b-pyramid": "normal", "x264-params": "b-adapt=0:scenecut=0"}
_OPEN_GOP = {**_PYRAMID, "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}
_HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "4"}
_UNEVEN = tuple(itertools.accumulate([1, 1, 5, 2, 30, 1, 7, 3] * 5))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate() -> AsyncIterator[MediaLoader]:
    loader = MediaLoader(MediaSettings(num_decoders=1), PROCESSING)
    await loader.start()
    yield loader
    await loader.stop()


async def frames_of(gate: MediaLoader, data: bytes, **options: Any) -> np.ndarray:
    loaded = await load(gate, media("video", data_url(data, "video/mp4"), **options))
    assert all(tiles.num_tiles == 1 for tiles in loaded.tile_sets)
    pixels = b"".join(tiles.pixels for tiles in loaded.tile_sets)
    return np.frombuffer(pixels, np.uint8).reshape(-1, 56, 56, 3)


def _reordered(data: bytes) -> bytes:
    """The first key frame is lost, and two frames that others refer to."""
    return swapped_packets(data, "matroska", lambda packets: packets[1:20] + packets[21:])


CLIPS: dict[str, Callable[[], bytes]] = {
    "mp4": Clip(),
    "mov": Clip(container="mov"),
    "mkv": Clip(container="matroska"),
    "avi-mpeg4": Clip(codec="mpeg4", container="avi"),
    "avi-mpeg4-b": Clip(codec="mpeg4", container="avi", options={"bf": "2"}),
    "mp4-mpeg4": Clip(codec="mpeg4", options={"bf": "2"}),
    "hevc": Clip(codec="libx265", gop=20),
    "hevc-mkv": Clip(codec="libx265", container="matroska", options={"bf": "4"}),
    "vp8": Clip(codec="libvpx", container="webm"),
    "vp8-hidden": Clip(codec="libvpx", container="webm", options=_HIDDEN, num_frames=60, gop=30),
    "vp9": Clip(codec="libvpx-vp9", container="webm"),
    "vp9-hidden": Clip(codec="libvpx-vp9", container="webm", options=_HIDDEN, num_frames=60),
    "vp9-mp4": Clip(codec="libvpx-vp9", options=_HIDDEN),
    "av1": Clip(codec="libsvtav1", num_frames=30),
    "av1-webm": Clip(codec="libsvtav1", container="webm", num_frames=30, gop=10),
    **{f"gop-{gop}": Clip(gop=gop, num_frames=60) for gop in (1, 12, 250)},
    "no-b": Clip(options={"bf": "0"}),
    "b-pyramid": Clip(options=_PYRAMID, num_frames=70, gop=24),
    "b-pyramid-250": Clip(options=_PYRAMID, num_frames=90, gop=250),
    "b-pyramid-mkv": Clip(options=_PYRAMID, container="matroska", num_frames=70, gop=24),
    "open-gop": Clip(options=_OPEN_GOP, num_frames=70, gop=16),
    "open-gop-mkv": Clip(options=_OPEN_GOP, num_frames=70, gop=16, container="matroska"),
    "intra-refresh": Clip(options={"x264-params": "intra-refresh=1"}, num_frames=60, gop=20),
    "interlaced": Clip(options={"x264-params": "tff=1"}, num_frames=40),
    **{f"rate-{rate}": Clip(rate=rate, num_frames=30) for rate in
       (1, 15, 60, Fraction(30000, 1001), Fraction(24000, 1001), 1000)},
    "vfr": Clip(rate=90, times=_UNEVEN, num_frames=40),
    "vfr-b-mkv": Clip(rate=90, times=_UNEVEN, num_frames=40, container="matroska",
                      options=_PYRAMID),
    "late-start": Clip(times=tuple(range(500, 540))),
    **{f"turned-{n}": lambda n=n: turned(Clip(num_frames=12)(), n) for n in (90, 180, 270)},
    "turned-with-sound": lambda: rotated(with_sound(Clip(num_frames=24))),
    "edit-list-cut": lambda: boxes.with_edit_list(Clip(num_frames=48, options=_PYRAMID)(),
                                                  (1000, 8192)),
    "edit-list-plain": lambda: boxes.with_edit_list(Clip(num_frames=48, options={"bf": "0"})(),
                                                    (1000, 4608)),
    "edit-list-gap": lambda: boxes.with_edit_list(Clip(num_frames=48)(), (500, -1), (2000, 1024)),
    "no-edit-list": lambda: boxes.drop_box(Clip(options=_PYRAMID)(), "moov/trak", b"edts"),
    "fragmented": Clip(num_frames=60, muxing={"movflags": "frag_keyframe+empty_moov"}),
    "fragmented-b": Clip(num_frames=60, options=_PYRAMID,
                         muxing={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    **{f"size-{w}x{h}": Clip(size=(w, h), pix_fmt="yuv444p") for w, h in ((63, 47), (17, 91))},
    "size-426x240": Clip(size=(426, 240), num_frames=30),
    "10-bit": Clip(pix_fmt="yuv420p10le"),
    "4:2:2": Clip(pix_fmt="yuv422p"),
    "full-range": Clip(pix_fmt="yuvj420p"),
    "lost-frames": lambda: _reordered(Clip(num_frames=60, gop=15)()),
    "equal-times": lambda: boxes.time_to_sample(Clip(options={"bf": "0"})(), (40, 0)),
    "one": Clip(num_frames=1),
    "two": Clip(num_frames=2),
    "seven": Clip(num_frames=7, options=_PYRAMID),
}  # fmt: skip


async def test_every_frame_differs() -> None:
    frames = [moving_frame(index, (64, 48)).astype(int) for index in range(90)]
    for one, other in itertools.pairwise(frames):
        assert abs(one - other).mean() > 4


@pytest.mark.parametrize("name", CLIPS)
async def test_frames_equal_a_full_decode(gate: MediaLoader, name: str) -> None:
    data = CLIPS[name]()
    for num_frames in (1, 3, 8, 16):
        expected = reference_frames(data, num_frames)
        found = await frames_of(gate, data, num_frames=num_frames)
        assert found.shape == expected.shape
        assert np.array_equal(found, expected), _which(found, data)


def _which(found: np.ndarray, data: bytes) -> list[int]:
    """The nearest frames of the full decode, for the failure's message."""
    every = reference_frames(data, 1000).astype(int)
    return [int(np.abs(every - each).mean(axis=(1, 2, 3)).argmin()) for each in found]


async def test_there_are_thirty() -> None:
    assert len(CLIPS) >= 30


@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_a_phones_video_comes_out_upright(gate: MediaLoader, turn: int) -> None:
    """The bits at the top of the picture stand left, below or right in the file."""
    data = turned(Clip(num_frames=1)(), turn)
    (tile,) = await frames_of(gate, data, num_frames=1)
    (plain,) = await frames_of(gate, Clip(num_frames=1)(), num_frames=1)
    candidates = [np.abs(np.rot90(plain, n).astype(int) - tile).mean() for n in range(4)]
    assert int(np.argmin(candidates)) == (-turn // 90) % 4


async def test_more_frames_than_there_are_takes_all(gate: MediaLoader) -> None:
    assert len(await frames_of(gate, Clip(num_frames=5)(), num_frames=64)) == 5
    assert len(await frames_of(gate, Clip(num_frames=1)(), num_frames=8)) == 1


async def test_frames_per_second(gate: MediaLoader) -> None:
    data = Clip(num_frames=48)()
    assert len(await frames_of(gate, data, fps=2.0)) == 4
    assert len(await frames_of(gate, data, fps=0.01)) == 1


@pytest.mark.parametrize("options", [{}, _PYRAMID], ids=["plain", "b-pyramid"])
async def test_start_and_end_bound_the_clip(gate: MediaLoader, options: dict[str, str]) -> None:
    """One frame a second: frames 3 to 6 are shown from 3 s to before 7 s."""
    data = Clip(num_frames=12, rate=1, options=options)()
    every = reference_frames(data, 12)
    found = await frames_of(gate, data, start_s=3.0, end_s=7.0, num_frames=8)
    assert np.array_equal(found, every[3:7])


async def test_indices_are_the_midpoints_of_equal_segments() -> None:
    """transformers' own formula, which is written with torch.arange."""
    for total in (1, 7, 24, 240, 1001):
        for wanted in (1, 2, 5, 8, 16, 100):
            if wanted <= total:
                steps = torch.arange(total / wanted / 2, total, total / wanted).int()
                assert sample_frame_indices(total, wanted) == steps.tolist()


async def test_a_frame_list_is_a_video(gate: MediaLoader) -> None:
    pictures = [encoded(photo(60, 60, seed=n), "JPEG") for n in range(3)]
    parts = [base64.b64encode(each).decode() for each in pictures]
    request = media("video", "data:video/jpeg;base64," + ",".join(parts))
    loaded = await load(gate, request)
    for tiles, data in zip(loaded.tile_sets, pictures, strict=True):
        found = np.frombuffer(tiles.pixels, np.uint8).reshape(1, 56, 56, 3)
        assert np.abs(found.astype(int) - reference_tiles(upright_rgb(data))).max() <= 2
