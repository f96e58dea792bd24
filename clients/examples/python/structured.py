"""Get an answer as a Pydantic object: its schema is enforced while the answer is written."""

import base64
from pathlib import Path
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel


class Drawing(BaseModel):
    shape: Literal["a red circle", "a blue square", "a green triangle"]


picture = base64.b64encode(Path("docs/examples/triangle.png").read_bytes()).decode()

client = OpenAI()
answer = client.chat.completions.parse(
    model=client.models.list().data[0].id,
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
                {"type": "text", "text": "What is in the image?"},
            ],
        }
    ],
    response_format=Drawing,
)
drawing = answer.choices[0].message.parsed
print(drawing.shape if drawing else answer.choices[0].finish_reason)
