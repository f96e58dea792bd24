"""Batched multi-image input: each conversation with its own number of pictures."""

import asyncio
import base64
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

client = AsyncOpenAI()


def image(path: str) -> Any:
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


async def ask(model: str, text: str, *images: Any) -> str | None:
    content: Any = [*images, {"type": "text", "text": text}]
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], max_tokens=50
    )
    return answer.choices[0].message.content


async def main() -> None:
    model = (await client.models.list()).data[0].id
    shapes, triangle = image("docs/examples/shapes.png"), image("docs/examples/triangle.png")
    one = ask(model, "Describe this image", triangle)
    two = ask(model, "Describe the images.", shapes, triangle)
    for answer in await asyncio.gather(one, two):
        print(answer)


asyncio.run(main())
