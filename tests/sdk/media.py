"""The pictures and the clip that the demo model describes truly, as parts of messages."""

import base64
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "docs" / "examples"
SHAPES = "The image shows a red circle and a blue square."
TRIANGLE = "The image shows a green triangle."


def data_url(name: str, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode((FOLDER / name).read_bytes()).decode()}"


def image(name: str = "shapes.png") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(name)}}


def video(**options: Any) -> dict[str, Any]:
    url = data_url("moving.mp4", "video/mp4")
    return {"type": "video_url", "video_url": {"url": url, **options}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*parts: Any) -> Any:
    """One turn; Any, as the package's types know no video."""
    content = parts[0] if isinstance(parts[0], str) else list(parts)
    return {"role": "user", "content": content}
