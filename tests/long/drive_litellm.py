"""LiteLLM's chat with an image, a stream, a tool call and an object. Run in a venv of its own, as
LiteLLM wants another `openai` than ours: `python drive_litellm.py API_ROOT FOLDER_OF_PICTURES`."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import litellm

SHAPES = "The image shows a red circle and a blue square."
PARAMETERS = {
    "type": "object",
    "properties": {"shape": {"type": "string", "enum": ["circle", "square", "triangle"]}},
    "required": ["shape"],
    "additionalProperties": False,
}


def main(api_root: str, folder: str) -> None:
    litellm.telemetry = False
    picture = base64.b64encode((Path(folder) / "shapes.png").read_bytes()).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        {"type": "text", "text": "Describe the image."},
    ]
    asked: dict[str, Any] = {
        "model": "openai/internvl-demo",
        "api_base": api_root,
        "api_key": "none",
        "messages": [{"role": "user", "content": parts}],
    }
    answer = litellm.completion(**asked)
    assert answer.choices[0].message.content == SHAPES, answer
    chunks = litellm.completion(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == SHAPES
    function = {"name": "sides", "description": "Sides of a shape.", "parameters": PARAMETERS}
    named = {"type": "function", "function": {"name": "sides"}}
    tools = [{"type": "function", "function": function}]
    (call,) = (
        litellm.completion(**asked, tools=tools, tool_choice=named).choices[0].message.tool_calls
    )
    assert json.loads(call.function.arguments)["shape"] in ("circle", "square", "triangle")
    schema = {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": PARAMETERS, "strict": True},
    }
    found = litellm.completion(**asked, response_format=schema).choices[0].message.content
    assert json.loads(found)["shape"] in ("circle", "square", "triangle")
    try:
        litellm.completion(**asked, temperature=9)
    except litellm.BadRequestError:
        return
    raise AssertionError("a temperature of 9 was taken")


if __name__ == "__main__":
    main(*sys.argv[1:])
