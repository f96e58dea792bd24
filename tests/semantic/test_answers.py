"""Right answers, however pictures and videos arrive and wherever they stand."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import av
import httpx
import pytest

from tests.sdk.media import FOLDER, SHAPES, TRIANGLE, data_url, image, text, user, video
from tests.site import Site

DESCRIBE, LEFT = text("Describe the image."), text("What is on the left?")
MOVES = "green circle moves to the right"
BOTH = (
    "The first image shows a red circle and a blue square. The second image shows a green triangle."
)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    for name in ("shapes.png", "triangle.png", "moving.mp4"):
        site.put(f"/{name}", (FOLDER / name).read_bytes())
    yield site
    site.close()


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(url + path, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def chat(url: str, *turns: Any) -> str:
    body = post(url, "/chat/completions", {"messages": list(turns), "temperature": 0})
    said: str = body["choices"][0]["message"]["content"]
    return said


def frame_list(num_frames: int = 8) -> str:
    """A clip as a client without a video encoder sends it: JPEGs, one after another."""
    with av.open(str(FOLDER / "moving.mp4")) as clip:
        images = [frame.to_image() for frame in clip.decode(video=0)]
    chosen = [images[i * len(images) // num_frames] for i in range(num_frames)]
    frames = []
    for chosen_image in chosen:
        buffer = io.BytesIO()
        chosen_image.save(buffer, "JPEG", quality=95)
        frames.append(base64.b64encode(buffer.getvalue()).decode())
    return "data:video/jpeg;base64," + ",".join(frames)


def at(site: Site, name: str, kind: str = "image_url") -> dict[str, Any]:
    return {"type": kind, kind: {"url": f"{site.url}/{name}"}}


def test_a_picture_by_url_and_by_data_url(demo_server: str, site: Site) -> None:
    assert chat(demo_server, user(at(site, "shapes.png"), DESCRIBE)) == SHAPES
    assert chat(demo_server, user(image(), DESCRIBE)) == SHAPES


def test_a_video_by_url_by_data_url_and_as_frames(demo_server: str, site: Site) -> None:
    question = text("What happens in the video?")
    frames = {"type": "video_url", "video_url": {"url": frame_list()}}
    for part in (at(site, "moving.mp4", "video_url"), video(), frames):
        assert MOVES in chat(demo_server, user(part, question))


def test_two_pictures_in_their_order(demo_server: str) -> None:
    question = text("Describe the images.")
    shapes, triangle = image(), image("triangle.png")
    assert BOTH in chat(demo_server, user(shapes, triangle, question))
    assert chat(demo_server, user(triangle, shapes, question)).startswith(
        "The first image shows a green triangle."
    )


def test_the_second_turn(demo_server: str) -> None:
    turns = [user(image(), DESCRIBE), {"role": "assistant", "content": SHAPES}]
    assert "red circle" in chat(demo_server, *turns, user(LEFT))
    assert "red circle" in chat(demo_server, *turns, user("Is there a red circle?"), user(LEFT))


def test_the_same_through_responses(demo_server: str, site: Site) -> None:
    def said(body: dict[str, Any]) -> str:
        answer = post(demo_server, "/responses", {"temperature": 0, **body})
        text_of: str = answer["output"][0]["content"][0]["text"]
        return text_of

    def asked(words: str, *parts: Any) -> list[dict[str, Any]]:
        content = [*parts, {"type": "input_text", "text": words}]
        return [{"role": "user", "content": content}]

    by_url = {"type": "input_image", "image_url": f"{site.url}/triangle.png"}
    assert said({"input": asked("Describe the image.", by_url)}) == TRIANGLE
    clip = {"type": "input_video", "video_url": frame_list()}
    assert MOVES in said({"input": asked("What happens in the video?", clip)})
    shapes = {"type": "input_image", "image_url": data_url("shapes.png")}
    pair = asked("Describe the images.", shapes, by_url)
    assert BOTH in said({"input": pair})
    first = post(demo_server, "/responses", {"input": asked("Describe the image.", shapes)})
    later = {"input": "What is on the left?", "previous_response_id": first["id"]}
    assert "red circle" in said(later)


def test_the_same_through_messages(demo_server: str, site: Site) -> None:
    def asked(*names: str, words: str = "Describe the image.") -> list[dict[str, Any]]:
        sources = [{"type": "url", "url": f"{site.url}/{name}"} for name in names]
        parts = [{"type": "image", "source": source} for source in sources]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": words}]}]

    def said(messages: list[dict[str, Any]]) -> str:
        body = {"model": "internvl-demo", "max_tokens": 80, "messages": messages, "temperature": 0}
        content: str = post(demo_server, "/messages", body)["content"][0]["text"]
        return content

    assert said(asked("triangle.png")) == TRIANGLE
    assert BOTH in said(asked("shapes.png", "triangle.png", words="Describe the images."))
    turns = [*asked("shapes.png"), {"role": "assistant", "content": SHAPES}]
    assert "red circle" in said([*turns, {"role": "user", "content": "What is on the left?"}])


def test_a_completion_goes_on_with_a_conversation_as_the_template_writes_it(
    demo_server: str,
) -> None:
    """Plain text has no control tokens: what is typed stays characters, and no turn begins."""
    body = {"prompt": "<|im_start|>user\nCount to 5.<|im_end|>\n<|im_start|>assistant\n"}
    typed = post(demo_server, "/completions", {**body, "temperature": 0, "max_tokens": 30})
    real = chat(demo_server, user("Count to 5."))
    assert real == "1, 2, 3, 4, 5." and typed["usage"]["prompt_tokens"] > 20
