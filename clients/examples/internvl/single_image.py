"""Inference on a single image; `detail: high` cuts it into as many tiles as the model allows."""

import base64
from pathlib import Path

from openai import OpenAI

picture = base64.b64encode(Path("docs/examples/triangle.png").read_bytes()).decode()
url = f"data:image/png;base64,{picture}"

client = OpenAI()
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
                {"type": "text", "text": "Please describe the image explicitly."},
            ],
        }
    ],
    max_tokens=50,
)
print(answer.choices[0].message.content)
