"""The product as its user starts it: real processes, real media, the demo model."""

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.server.media.makers import clip, data_url, encoded, photo, rotated
from tests.site import Site


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def ask(base_url: str, *parts: Any, **options: Any) -> httpx.Response:
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    body = {"messages": [{"role": "user", "content": content}], **options}
    return httpx.post(f"{base_url}/chat/completions", json=body, timeout=60)


def image(url: str, **options: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **options}}


def video(url: str, **options: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": url, **options}}


def media_tokens(response: httpx.Response) -> tuple[int, int]:
    assert response.status_code == 200, response.text
    details = response.json()["usage"]["prompt_tokens_details"]
    return details["image_tokens"], details["video_tokens"]


def test_a_photo_by_url(demo_server: str, site: Site) -> None:
    """1080p JPEG: 16:9 is nearest to 2x1 tiles, and a thumbnail; 16 tokens each."""
    url = site.put("/photo.jpg", encoded(photo(1920, 1080), "JPEG", quality=85))
    response = ask(demo_server, image(url), "Describe the image.")
    assert media_tokens(response) == (3 * 16, 0)
    assert response.json()["choices"][0]["message"]["content"]
    assert media_tokens(ask(demo_server, image(url, detail="low"), "?")) == (16, 0)


def test_a_phones_video_by_url(demo_server: str, site: Site) -> None:
    """H.264 with a sound track and a rotation, as phones write it."""
    data = rotated(clip(60, size=(640, 360), rate=30, audio=True))
    url = site.put("/clip.mp4", data)
    response = ask(demo_server, video(url), "What happens in the video?")
    assert media_tokens(response) == (0, 8 * 16)
    assert media_tokens(ask(demo_server, video(url, num_frames=12), "?")) == (0, 12 * 16)


def test_images_and_videos_interleave(demo_server: str) -> None:
    picture, film = data_url(encoded(photo(100, 100))), data_url(clip(8), "video/mp4")
    response = ask(demo_server, "a", image(picture), "b", video(film), image(picture), "c")
    assert media_tokens(response)[1] == 8 * 16


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://169.254.169.254/latest", "media_url_blocked"),
        ("http://10.0.0.1/x.png", "media_url_blocked"),
        ("http://127.0.0.1:9/x.png", "media_fetch_failed"),
        ("file:///etc/passwd", "media_url_scheme"),
        (data_url(encoded(photo(50, 50))[:90]), "media_decode_failed"),
        (data_url(b"no picture at all"), "media_unsupported_type"),
    ],
)
def test_bad_media_is_a_400_that_names_its_part(demo_server: str, url: str, code: str) -> None:
    response = ask(demo_server, "look:", image(url))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, code)
    assert error["param"] == "messages[0].content[1].image_url.url"


def test_an_over_long_prompt_is_a_400(demo_server: str) -> None:
    response = ask(demo_server, "word " * 20_000)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_clients_that_leave_free_their_blocks(demo_server: str) -> None:
    for stream in (True, False):
        with pytest.raises(httpx.ReadTimeout):
            body = {"messages": [{"role": "user", "content": "Tell me a story"}], "stream": stream}
            endless = {"ignore_eos": True, "max_tokens": 3500}
            url = f"{demo_server}/chat/completions"
            with httpx.stream("POST", url, json=body | endless, timeout=0.7) as response:
                for _ in response.iter_bytes():
                    time.sleep(0.01)  # a reader that stays a moment, then falls silent
                    raise httpx.ReadTimeout("left")
    _wait_until_empty(demo_server)


def _wait_until_empty(base_url: str) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        text = httpx.get(base_url.removesuffix("/v1") + "/metrics").text
        values = dict(re.findall(r"^(internvl:\w+) ([0-9.]+)$", text, re.MULTILINE))
        names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
        if all(float(values[f"internvl:{name}"]) == 0 for name in names):
            return
        time.sleep(0.05)
    raise AssertionError("blocks are still in use")


async def test_a_seed_gives_the_same_text_alone_and_in_a_crowd(demo_server: str) -> None:
    import asyncio

    async with openai.AsyncOpenAI(base_url=demo_server, api_key="none") as client:

        async def sampled(seed: int) -> str | None:
            answer = await client.chat.completions.create(
                model="internvl-demo",
                messages=[{"role": "user", "content": "Write a haiku"}],
                temperature=2.0,
                seed=seed,
                max_tokens=40,
            )
            return answer.choices[0].message.content

        alone = await sampled(1)
        crowd = await asyncio.gather(*(sampled(seed) for seed in range(12)))
    assert crowd[1] == alone and len(set(crowd)) > 2
