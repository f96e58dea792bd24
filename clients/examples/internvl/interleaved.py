"""Interleaved image and video inputs: three conversations at once, with different media."""

import asyncio
import base64
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

client = AsyncOpenAI()


def media(kind: str, path: str) -> Any:
    """A part of a message, with a file of the disk. `kind` is `image/png` or `video/mp4`."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    part = "video_url" if kind.startswith("video/") else "image_url"
    return {"type": part, part: {"url": f"data:{kind};base64,{data}"}}


async def ask(model: str, text: str, *parts: Any) -> str | None:
    content: Any = [*parts, {"type": "text", "text": text}]
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], max_tokens=50
    )
    return answer.choices[0].message.content


async def main() -> None:
    model = (await client.models.list()).data[0].id
    shapes = media("image/png", "docs/examples/shapes.png")
    triangle = media("image/png", "docs/examples/triangle.png")
    moving = media("video/mp4", "docs/examples/moving.mp4")
    images = ask(model, "Describe the images.", shapes, triangle)
    video = ask(model, "What happens in the video?", moving)
    both = ask(model, "What happens in the video?", triangle, moving)
    for answer in await asyncio.gather(images, video, both):
        print(answer)


asyncio.run(main())
