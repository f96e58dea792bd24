"""Ask about a picture with LangChain (`pip install langchain-openai`); the answer streams."""

import base64
import os
from pathlib import Path

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

picture = base64.b64encode(Path("docs/examples/shapes.png").read_bytes()).decode()
message = HumanMessage(
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "text", "text": "Describe the image."},
    ]
)
chat = ChatOpenAI(model="internvl-demo", base_url=os.environ["OPENAI_BASE_URL"])
for chunk in chat.stream([message]):
    print(chunk.text, end="", flush=True)
print()
