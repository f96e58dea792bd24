"""Let the model call a function of yours, and answer with what it returned."""

import base64
import json
from pathlib import Path
from typing import Any, Literal

from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel, Field


class Sides(BaseModel):
    """How many sides a shape has."""

    shape: Literal["a circle", "a square", "a triangle"] = Field(description="what the image shows")


def sides(shape: str) -> int:
    return {"a circle": 1, "a square": 4, "a triangle": 3}[shape]


picture = base64.b64encode(Path("docs/examples/triangle.png").read_bytes()).decode()
content: list[Any] = [
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
    {"type": "text", "text": "What shape is it?"},
]
messages: list[Any] = [{"role": "user", "content": content}]

client = OpenAI()
model = client.models.list().data[0].id
tools = [pydantic_function_tool(Sides, name="sides")]
answer = client.chat.completions.create(
    model=model, messages=messages, tools=tools, tool_choice="required"
)
messages.append(answer.choices[0].message)
for call in answer.choices[0].message.tool_calls or []:
    if call.type == "function":
        result = sides(**json.loads(call.function.arguments))
        print(f"{call.function.name}({call.function.arguments}) = {result}")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})

answer = client.chat.completions.create(
    model=model, messages=messages, tools=tools, tool_choice="none"
)
print(answer.choices[0].message.content)
