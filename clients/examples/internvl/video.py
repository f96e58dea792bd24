"""Video input: eight frames of it, each labelled `FrameN: ` as the model was trained."""

import base64
from pathlib import Path
from typing import Any

from openai import OpenAI

video = base64.b64encode(Path("docs/examples/moving.mp4").read_bytes()).decode()
url = f"data:video/mp4;base64,{video}"
content: list[Any] = [
    {"type": "video_url", "video_url": {"url": url, "num_frames": 8}},
    {"type": "text", "text": "What happens in the video?"},
]

client = OpenAI()
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": content}],
    max_tokens=25,
)
print(answer.choices[0].message.content)
