"""Other wires than chat's to the product as its user starts it: right answers about pictures."""

import base64
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai

PICTURE = Path(__file__).parent.parent / "docs" / "examples" / "shapes.png"
DATA = base64.b64encode(PICTURE.read_bytes()).decode()
QUESTION = "What is on the left?"


def served(base_url: str) -> str:
    name: str = httpx.get(f"{base_url}/models").json()["data"][0]["id"]
    return name


def test_openais_responses_see_a_picture_also_in_the_second_turn(demo_server: str) -> None:
    text: Any = {"type": "input_text", "text": QUESTION}
    picture: Any = {
        "type": "input_image",
        "image_url": f"data:image/png;base64,{DATA}",
        "detail": "auto",
    }
    with openai.OpenAI(base_url=demo_server, api_key="none") as client:
        model = served(demo_server)
        message: Any = {"role": "user", "content": [picture, text]}
        first = client.responses.create(model=model, input=[message], temperature=0)
        assert "red circle" in first.output_text
        second = client.responses.create(
            model=model, input=QUESTION, previous_response_id=first.id, temperature=0
        )
        assert "red circle" in second.output_text
        events = client.responses.create(model=model, input=[message], temperature=0, stream=True)
        told = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert told == first.output_text


def test_anthropics_messages_see_a_picture(demo_server: str) -> None:
    source: Any = {"type": "base64", "media_type": "image/png", "data": DATA}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": QUESTION}]
    message = {"role": "user", "content": content}
    base_url = demo_server.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base_url, api_key="none") as client:
        asked: Any = {"model": served(demo_server), "messages": [message]}
        answer = client.messages.create(**asked, max_tokens=60)
        assert answer.content[0].type == "text" and "red circle" in answer.content[0].text
        with client.messages.stream(**asked, max_tokens=60) as events:
            assert "red circle" in events.get_final_text()
        counted = client.messages.count_tokens(**asked)
    usage = answer.usage
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)
