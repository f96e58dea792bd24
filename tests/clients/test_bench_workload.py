"""What is sent: the same seed, the same bytes; and real pictures and clips."""

import base64
import dataclasses
import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from clients.bench.options import Shape
from clients.bench.workload import body, content, plan

ROOT = Path(__file__).parent.parent.parent
SHAPE = Shape("mixed", 20, 2, (96, 64), (64, 48), 12, 0.0, seed=3)
DIGEST = """
import hashlib
from tests.clients.test_bench_workload import SHAPE, bodies
print(hashlib.sha256(b"".join(bodies(SHAPE))).hexdigest())
"""


def bodies(shape: Shape, first: int = 0, count: int = 12) -> list[bytes]:
    return [body("m", content(shape, one, 20), 8, {}) for one in plan(shape, first, count)]


def media(shape: Shape, count: int = 1) -> list[tuple[str, bytes]]:
    """Each part's media type and bytes."""
    found = []
    for request in plan(shape, 0, count):
        for part in content(shape, request, 5):
            assert isinstance(part, dict)
            if part["type"] != "text":
                head, _, data = part[part["type"]]["url"].partition(";base64,")
                found.append((head, base64.b64decode(data)))
    return found


def of(workload: str, **changes: Any) -> Shape:
    return dataclasses.replace(SHAPE, workload=workload, **changes)


def test_a_seed_makes_the_same_bytes_in_another_process() -> None:
    """Python's own hashes differ from process to process; ours must not."""
    command = [sys.executable, "-c", DIGEST]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == hashlib.sha256(b"".join(bodies(SHAPE))).hexdigest()


def test_another_seed_makes_other_bytes() -> None:
    assert not set(bodies(SHAPE)) & set(bodies(dataclasses.replace(SHAPE, seed=4)))


def test_any_request_can_be_made_alone() -> None:
    assert bodies(SHAPE, first=5, count=3) == bodies(SHAPE)[5:8]


def test_mixed_has_every_kind() -> None:
    kinds = [request.kind for request in plan(SHAPE, 0, 200)]
    for kind in ("text", "image", "multi-image", "video"):
        assert 30 < kinds.count(kind) < 70


def test_pictures_are_unique_jpegs_of_the_size() -> None:
    found = media(of("multi-image"), count=4)
    assert len(set(found)) == len(found) == 8
    for media_type, data in found:
        picture = Image.open(io.BytesIO(data))
        assert (media_type, picture.format, picture.size) == ("data:image/jpeg", "JPEG", (96, 64))


def test_a_picture_weighs_what_photographs_weigh() -> None:
    """0.1 to 0.5 bytes a pixel at quality 85; noise would have more than 1, drawings 0.05."""
    [(_, data)] = media(of("image", image_size=(1280, 720)))
    assert 0.1 < len(data) / (1280 * 720) < 0.5


def test_clips_are_mp4_with_the_frames_asked_for_and_move() -> None:
    [(media_type, data)] = media(of("video"))
    with av.open(io.BytesIO(data)) as clip:
        frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    assert media_type == "data:video/mp4"
    assert len(frames) == 12 and frames[0].shape == (48, 64, 3)
    assert abs(frames[0].astype(int) - frames[-1]).mean() > 5


def test_a_share_of_requests_repeats_media_under_other_texts() -> None:
    plans = plan(of("image", repeat_share=0.3), 0, 2000)
    repeated = [one for one in plans if one.media_index != one.index]
    assert len(repeated) / len(plans) == pytest.approx(0.3, abs=0.03)
    assert all(one.media_index < one.index for one in repeated)
    again = repeated[0]
    shape = of("image", repeat_share=0.3)
    first, second = (content(shape, plans[i], 5) for i in (again.media_index, again.index))
    assert first[0] == second[0] and first[1] != second[1]


def test_repeated_texts_are_equal() -> None:
    shape = of("text", repeat_share=0.5)
    texts = [content(shape, one, 9) for one in plan(shape, 0, 40)]
    assert 10 < len({str(one) for one in texts}) < 30
