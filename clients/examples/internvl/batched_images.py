"""Batched image and text inputs: requests at the same time, without padding."""

import asyncio
import base64
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI

client = AsyncOpenAI()


def image(path: str) -> Any:
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


async def ask(model: str, *content: Any) -> str | None:
    answer = await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], max_tokens=25
    )
    return answer.choices[0].message.content


async def main() -> None:
    model = (await client.models.list()).data[0].id
    text = {"type": "text", "text": "Describe this image"}
    first = ask(model, image("docs/examples/shapes.png"), text)
    second = ask(model, image("docs/examples/triangle.png"), text)
    for answer in await asyncio.gather(first, second):
        print(answer)


asyncio.run(main())
