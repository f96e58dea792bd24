"""Ask about a picture with the official `openai` package; the answer streams.

usage: openai_image.py [PICTURE] [QUESTION]
"""

import base64
import os
import sys

from openai import OpenAI

picture = sys.argv[1] if len(sys.argv) > 1 else "docs/examples/shapes.png"
question = sys.argv[2] if len(sys.argv) > 2 else "Describe the image."
base_url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")

with open(picture, "rb") as file:
    url = "data:image/png;base64," + base64.b64encode(file.read()).decode()

client = OpenAI(base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
model = client.models.list().data[0].id
stream = client.chat.completions.create(
    model=model,
    stream=True,
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": question},
            ],
        }
    ],
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
