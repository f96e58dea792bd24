"""The pipeline example of transformers' InternVL page, over HTTP: a picture and a question."""

import base64
from pathlib import Path
from typing import Any

from openai import OpenAI

picture = base64.b64encode(Path("docs/examples/shapes.png").read_bytes()).decode()
messages: list[Any] = [
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
            {"type": "text", "text": "Describe this image."},
        ],
    }
]
client = OpenAI()
outputs = client.chat.completions.create(
    model=client.models.list().data[0].id, messages=messages, max_tokens=50
)
print(outputs.choices[0].message.content)
