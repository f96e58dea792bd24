"""The rows of the media tables as a client meets them: OpenAI's error shape, over a real server."""

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model_runtime.checkpoint import load_checkpoint
from server.media import dialer
from server.media.loader import MediaLoader
from server.media.settings import MediaSettings
from tests.fakes import FakeEngine, make_app, run_server
from tests.server.api.client import error_of, post
from tests.server.media import corpus_images, corpus_urls, corpus_videos
from tests.server.media.gate import OK, Row, check_message
from tests.server.media.hostile_site import HostileSite
from tests.server.media.makers import data_url
from tests.server.media.processes import memory_used
from tests.server.media.resolver import SITE, FakeResolver

_SETTINGS = MediaSettings(
    allowed_media_networks=(f"{SITE}/32",),
    image_fetch_timeout_s=corpus_urls.FETCH_TIMEOUT_S,
    max_image_bytes=24 << 20,
    max_video_bytes=corpus_videos.MAX_VIDEO_BYTES,
    max_video_frames=corpus_videos.MAX_VIDEO_FRAMES,
    dns_timeout_s=0.5,
)
_URLS = [*corpus_urls.SYNTAX, *corpus_urls.ADDRESSES, *corpus_urls.REDIRECTS, *corpus_urls.ANSWERS]
_LARGE = {"U62.1", "U62.2", "U62.3", "U62.exactly", "D15"}  # of a lower limit than here
_IMAGES = [
    *corpus_images.SIZES,
    *corpus_images.METADATA,
    *corpus_images.KINDS,
    *corpus_images.DAMAGE,
]
_VIDEOS = [*corpus_videos.BOMBS, *corpus_videos.TIMES, *corpus_videos.CODECS]
_GROWTH_BYTES = 50 << 20


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def site() -> Iterator[HostileSite]:
    site = HostileSite()
    yield site
    site.close()


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Path, engine: FakeEngine) -> Iterator[str]:
    """The product's front end and decoders, and an engine that says hello."""
    loader = MediaLoader(_SETTINGS, load_checkpoint(tiny_checkpoint, "tiny").tiles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialer, "lookup", FakeResolver().lookup)
        app = make_app(tiny_checkpoint, engine, loader)
        with run_server(app) as url:
            yield url


def ask(client: httpx.Client, base: str, kind: str, url: str) -> str:
    """`ok` or the error's code; all else about the answer is checked here."""
    content = [{"type": f"{kind}_url", f"{kind}_url": {"url": url}}]
    answer = client.post(
        f"{base}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": content}]},
    )
    if answer.status_code == 200:
        return OK
    error = error_of(answer)
    assert answer.status_code == 400 and error["type"] == "invalid_request_error", answer.text
    assert error["param"] == f"messages[0].content[0].{kind}_url.url"
    check_message(error["message"])
    return str(error["code"])


def check_all(base: str, kind: str, rows: list[tuple[Row, str]]) -> None:
    wrong = []
    with httpx.Client(timeout=30, trust_env=False) as client:
        for row, url in rows:
            found = ask(client, base, kind, url)
            if found not in row.codes:
                wrong.append(f"{row.id}: {found}, wanted {row.codes}")
    assert not wrong, "\n".join(wrong)


def _addressed(row: Row, site: HostileSite) -> str:
    port = site.ports["http"]
    url: str = row.value.replace("GOOD.{site}", f"GOOD.Example:{port}")
    return url.replace("{site}", f"good.example:{port}")


def test_urls(base: str, site: HostileSite) -> None:
    rows = [(row, _addressed(row, site)) for row in _URLS if row.id not in _LARGE]
    check_all(base, "image", rows)


def test_data_urls(base: str) -> None:
    images = [(row, row.value) for row in corpus_urls.DATA_IMAGES if row.id not in _LARGE]
    check_all(base, "image", images)
    check_all(base, "video", [(row, row.value) for row in corpus_urls.DATA_VIDEOS])


@pytest.mark.parametrize(
    ("kind", "rows"), [("image", _IMAGES), ("video", _VIDEOS)], ids=["images", "videos"]
)
def test_bytes(base: str, kind: str, rows: list[Row]) -> None:
    check_all(base, kind, [(row, data_url(row.value(), f"{kind}/x")) for row in rows])


def test_frontend_memory_stays_flat(base: str) -> None:
    """Bombs and large files, three times over: what the first time took is all that it takes."""
    bombs = [row for row in _IMAGES if row.id in {"I06", "I09", "I16.1", "I18.2", "I46.4"}]
    urls = [data_url(row.value(), "image/x") for row in bombs]
    used = []
    with httpx.Client(timeout=30, trust_env=False) as client:
        for _ in range(4):
            for url in urls:
                ask(client, base, "image", url)
            used.append(memory_used())
    assert used[-1] - used[0] < _GROWTH_BYTES, used


def test_a_bad_part_keeps_nothing_from_the_others(base: str, engine: FakeEngine) -> None:
    """Neither requests beside it nor the engine hear of it."""
    before, results = len(engine.requests), list[str]()

    def one(url: str) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            results.append(ask(client, base, "image", url))

    good, bad = corpus_urls.DATA_IMAGES[0].value, data_url(b"no picture")
    threads = [threading.Thread(target=one, args=(url,)) for url in [good, bad] * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["media_unsupported_type"] * 6 + [OK] * 6
    assert len(engine.requests) == before + 6
    assert post(base, {"messages": [{"role": "user", "content": "Hi"}]}).status_code == 200
