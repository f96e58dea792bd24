"""Ask about several pictures: several parts, in the order in which you speak of them."""

import base64
from pathlib import Path
from typing import Any

from openai import OpenAI


def image(path: str) -> Any:
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


content = [
    image("docs/examples/shapes.png"),
    image("docs/examples/triangle.png"),
    {"type": "text", "text": "Describe the images."},
]
client = OpenAI()
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": content}],
)
print(answer.choices[0].message.content)
