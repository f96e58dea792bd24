"""Ask about a video. `video_url` is no part of OpenAI's API: the package passes it on untyped."""

import base64
from pathlib import Path
from typing import Any

from openai import OpenAI

video = base64.b64encode(Path("docs/examples/moving.mp4").read_bytes()).decode()
content: list[Any] = [
    {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{video}"}},
    {"type": "text", "text": "What happens in the video?"},
]

client = OpenAI()
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": content}],
    extra_body={"media_io_kwargs": {"video": {"num_frames": 8}}},
)
print(answer.choices[0].message.content)
