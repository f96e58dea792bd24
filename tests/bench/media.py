"""What media costs the processor: our decoders beside the usual ones, in CPU seconds of one thread.

And what a picture made to be slow costs a text request that comes beside it, over HTTP.
"""

import base64
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import av
import httpx
import torch
from PIL import Image
from transformers import GotOcr2ImageProcessorPil

from model_runtime.tiling import sample_frame_indices
from server.media.image import decode_image
from server.media.jobs import DecodeJob, MediaSource, TileParams
from server.media.processor import limits_of
from server.media.settings import MediaSettings
from server.media.video import decode_video, measure_video
from tests.bench.method import Block
from tests.bench.pictures import moving_clip, photo, slow_jpeg
from tests.bench.ratios import RatioRow, compare_row
from tests.bench.workload import Setup

NUM_FRAMES, CLIP_FRAMES = 8, 600
_TILES = TileParams(448, 448, 1, 12, Image.Resampling.BICUBIC)
_LIMITS = limits_of(MediaSettings())


def run(setup: Setup) -> list[RatioRow]:
    torch.set_num_threads(1)
    picture, pairs = photo(1920, 1080), setup.effort.pairs
    num_frames = CLIP_FRAMES if setup.effort.pairs > 2 else 60
    rows = [compare_row("1080p JPEG to tiles", "CPU s, ours/transformers'",
                        lambda: _cpu_s(lambda: _our_tiles(picture)),
                        lambda: _cpu_s(lambda: _their_tiles(picture)), pairs)]  # fmt: skip
    for gop in (30, 60, 250):
        clip = moving_clip(num_frames, (1280, 720), gop)
        rows.append(
            compare_row(
                f"{NUM_FRAMES} of {num_frames} frames, 720p H.264, a key frame in {gop}",
                "CPU s, ours/decoding all",
                _timed(_our_frames, clip),
                _timed(_all_frames, clip),
                pairs,
            )
        )
    with _served() as url:
        rows.append(
            compare_row(
                "first token of a text, slow pictures being decoded",
                "s, beside them/alone",
                lambda: _first_token_s(url, with_bombs=True),
                lambda: _first_token_s(url, with_bombs=False),
                pairs,
            )
        )
    return rows


def _timed(work: Callable[[bytes], object], data: bytes) -> Block:
    return lambda: _cpu_s(lambda: work(data))


def _cpu_s(work: Callable[[], object]) -> float:
    """The least of a few: what another process took from the caches is not its cost."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def _our_tiles(data: bytes) -> None:
    decode_image(DecodeJob(MediaSource("image", [data], _TILES, _LIMITS), []))


def _their_tiles(data: bytes) -> None:
    size = {"height": 448, "width": 448}
    processor = GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, max_patches=12)
    processor(Image.open(io.BytesIO(data)).convert("RGB"), return_tensors="pt")


def _our_frames(data: bytes) -> None:
    source = MediaSource("video", [data], _TILES, _LIMITS, num_frames=NUM_FRAMES)
    decode_video(DecodeJob(source, measure_video(source).frames))


def _all_frames(data: bytes) -> None:
    """Decode every frame, keep the wanted ones, and bring those to the tile's size."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        wanted = set(sample_frame_indices(stream.frames, NUM_FRAMES))
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                pixels = Image.fromarray(frame.to_ndarray(format="rgb24"))
                pixels.resize((448, 448), Image.Resampling.BICUBIC)


# ------------------------------------------------------------------ over HTTP


@contextmanager
def _served() -> Iterator[str]:
    """The demo model, on a free port."""
    command = [sys.executable, "-m", "server", "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        hint = next(line for line in process.stderr if "try: curl" in line)
        url = hint.split("curl ")[1].split("/chat")[0]
        Thread(target=process.stderr.read, daemon=True).start()
        yield url
    finally:
        process.terminate()
        process.wait()


def _first_token_s(url: str, *, with_bombs: bool) -> float:
    """The median of several requests, one after another."""
    is_over = Event()
    bomber = Thread(target=_send_bombs, args=(url, is_over))
    if with_bombs:
        bomber.start()
        time.sleep(0.5)
    times = sorted(_ask(url) for _ in range(15))
    is_over.set()
    if with_bombs:
        bomber.join()
    return times[len(times) // 2]


def _ask(url: str) -> float:
    body = {"messages": [{"role": "user", "content": "Count to 20."}], "stream": True}
    started = time.monotonic()
    with httpx.stream("POST", f"{url}/chat/completions", json=body, timeout=60) as response:
        for line in response.iter_lines():
            if '"content":"' in line and '"content":""' not in line:
                return time.monotonic() - started
    raise RuntimeError("there was no answer")


def _send_bombs(url: str, is_over: Event) -> None:
    """Each unlike the ones before, so that nothing of them is known."""
    number = 0
    while not is_over.is_set():
        number += 1
        data = base64.b64encode(slow_jpeg(number)).decode()
        part = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}}
        body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 1}
        httpx.post(f"{url}/chat/completions", json=body, timeout=60)
