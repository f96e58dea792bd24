"""Ask about a picture on your disk: it travels in the request, as a data URL."""

import base64
from pathlib import Path

from openai import OpenAI

picture = base64.b64encode(Path("docs/examples/shapes.png").read_bytes()).decode()

client = OpenAI()
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
                {"type": "text", "text": "Describe the image."},
            ],
        }
    ],
)
print(answer.choices[0].message.content)
