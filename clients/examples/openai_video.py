"""Ask about a video with the official `openai` package. `video_url` is this server's own part.

usage: openai_video.py [VIDEO] [QUESTION]
"""

import base64
import os
import sys
from typing import Any

from openai import OpenAI

video = sys.argv[1] if len(sys.argv) > 1 else "docs/examples/moving.mp4"
question = sys.argv[2] if len(sys.argv) > 2 else "What happens in the video?"
base_url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")

with open(video, "rb") as file:
    url = "data:video/mp4;base64," + base64.b64encode(file.read()).decode()

message: Any = {
    "role": "user",
    "content": [
        {"type": "video_url", "video_url": {"url": url, "num_frames": 8}},
        {"type": "text", "text": question},
    ],
}
client = OpenAI(base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
model = client.models.list().data[0].id
answer = client.chat.completions.create(model=model, messages=[message])
print(answer.choices[0].message.content)
