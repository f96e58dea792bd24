"""Frames equal a straight decode; what FFmpeg would open for a crafted file stays shut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_runtime.tiling import sample_frame_indices
from server.errors import MediaError
from server.media.loader import MediaLoader
from server.media.types import MediaRequest
from tests.server.media.conftest import load
from tests.server.media.makers import clip, data_url, encoded, frame, photo, rotated


def request(data: bytes, **options: Any) -> MediaRequest:
    return MediaRequest("video", data_url(data, "video/mp4"), "part", **options)


async def frames_of(loader: MediaLoader, data: bytes, **options: Any) -> np.ndarray:
    loaded = await load(loader, request(data, **options))
    assert all(tiles.num_tiles == 1 for tiles in loaded.tile_sets)
    pixels = b"".join(tiles.pixels for tiles in loaded.tile_sets)
    return np.frombuffer(pixels, np.uint8).reshape(-1, 56, 56, 3)


def brightness(frames: np.ndarray) -> np.ndarray:
    return frames[:, 40:, 40:].mean(axis=(1, 2, 3))


def expected_brightness(num_frames: int, indices: list[int]) -> np.ndarray:
    return np.array([frame(i, num_frames, (64, 48))[-1, -1, 0] for i in indices], np.float64)


def test_indices_are_the_midpoints_of_equal_segments() -> None:
    """transformers' own formula, which is written with torch.arange."""
    for total in (1, 7, 24, 240, 1001):
        for wanted in (1, 2, 5, 8, 16, 100):
            if wanted <= total:
                steps = torch.arange(total / wanted / 2, total, total / wanted).int()
                assert sample_frame_indices(total, wanted) == steps.tolist()


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("h264", "mp4"),
        ("h264", "mov"),
        ("h264", "matroska"),
        ("libx265", "mp4"),
        ("mpeg4", "avi"),
        ("libvpx", "webm"),
        ("libvpx-vp9", "webm"),
        ("libsvtav1", "mp4"),
    ],
)
async def test_codecs_and_containers(loader: MediaLoader, codec: str, container: str) -> None:
    data = clip(24, codec=codec, container=container)
    frames = await frames_of(loader, data, num_frames=8)
    expected = expected_brightness(24, sample_frame_indices(24, 8))
    assert abs(brightness(frames) - expected).max() < 8


@pytest.mark.parametrize("gop", [1, 5, 250])
@pytest.mark.parametrize("num_frames", [1, 3, 16])
async def test_the_wanted_frames_come_in_order(
    loader: MediaLoader, gop: int, num_frames: int
) -> None:
    data = clip(30, gop=gop, rate=15)
    frames = await frames_of(loader, data, num_frames=num_frames)
    expected = expected_brightness(30, sample_frame_indices(30, num_frames))
    assert abs(brightness(frames) - expected).max() < 8


async def test_more_frames_than_there_are_takes_all(loader: MediaLoader) -> None:
    assert len(await frames_of(loader, clip(5), num_frames=64)) == 5
    assert len(await frames_of(loader, clip(1), num_frames=8)) == 1


async def test_frames_per_second(loader: MediaLoader) -> None:
    assert len(await frames_of(loader, clip(48, rate=24), fps=2.0)) == 4


async def test_a_phones_video_comes_out_upright(loader: MediaLoader) -> None:
    """H.264 with sound and a display matrix: the red quarter moves from upper left to right."""
    (tile,) = await frames_of(loader, rotated(clip(4, audio=True)), num_frames=1)
    is_red = (tile[..., 0].astype(int) - tile[..., 1]) > 100
    assert is_red[:20, 36:].mean() > 0.9 and is_red[:20, :20].mean() < 0.1


async def test_a_frame_list_is_a_video(loader: MediaLoader) -> None:
    import base64

    parts = [base64.b64encode(encoded(photo(60, 60, seed=i), "JPEG")).decode() for i in range(3)]
    url = "data:video/jpeg;base64," + ",".join(parts)
    loaded = await load(loader, MediaRequest("video", url, "part"))
    assert loaded.kind == "video" and len({t.content_hash for t in loaded.tile_sets}) == 3


async def test_a_broken_tail_gives_the_frames_there_are(loader: MediaLoader) -> None:
    data = clip(48, container="matroska", gop=4)
    assert len(await frames_of(loader, data[: len(data) * 3 // 4], num_frames=8)) == 8


async def test_hostile_videos_open_nothing(
    loader: MediaLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Playlists that make FFmpeg read local files or open sockets, and things that are no video."""
    canary = tmp_path / "canary.txt"
    canary.write_text("secret")
    monkeypatch.chdir(tmp_path)
    before = canary.stat().st_atime_ns
    hostile = {
        b"ffconcat version 1.0\nfile canary.txt\n": "media_unsupported_type",
        b"#EXTM3U\n#EXTINF:1,\nfile://canary.txt\n": "media_unsupported_type",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 50124 RTP/AVP 96\n": "media_unsupported_type",
        encoded(photo(8, 8)): "media_unsupported_type",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isomffconcat version 1.0\nfile canary.txt\n": (
            "media_decode_failed"
        ),
        clip(10)[:300]: "media_decode_failed",
        b"": "media_url_invalid",
    }
    for data, code in hostile.items():
        with pytest.raises(MediaError) as caught:
            await load(loader, request(data))
        assert caught.value.code == code, data[:20]
    assert canary.stat().st_atime_ns == before


async def test_codecs_off_the_list_are_refused(loader: MediaLoader) -> None:
    with pytest.raises(MediaError) as caught:
        await load(loader, request(clip(4, codec="ffv1", container="matroska")))
    assert caught.value.code == "media_unsupported_codec"
