"""An answer depends on its request, not on who else is there: text by text, over HTTP."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.sdk.media import image, text, user

DRAWN: dict[str, Any] = {"temperature": 1.3, "seed": 11, "max_tokens": 30, "ignore_eos": True}
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {"messages": [user("Count to 20.")], "temperature": 0},
    "drawn": {"messages": [user("Who are you?")], **DRAWN},
    "picture": {"messages": [user(image(), text("Describe the image."))], **DRAWN},
    "penalties": {
        "messages": [user("Count to 20.")],
        **DRAWN,
        "presence_penalty": 1.0,
        "repetition_penalty": 1.2,
        "top_p": 0.9,
        "top_k": 40,
    },
    "schema": {
        "messages": [user("Describe yourself.")],
        "temperature": 1.0,
        "seed": 3,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "schema": {
                    "type": "object",
                    "properties": {"word": {"type": "string", "maxLength": 30}},
                    "required": ["word"],
                    "additionalProperties": False,
                },
            },
        },
    },
}


async def say(client: httpx.AsyncClient, body: dict[str, Any]) -> list[str]:
    answer = await client.post("/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return [choice["message"]["content"] for choice in answer.json()["choices"]]


async def say_in_pieces(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    said = ""
    async with client.stream("POST", "/chat/completions", json={**body, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                said += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
    return said


@pytest.mark.parametrize("name", ASKED)
async def test_alone_and_beside_fifteen_others(demo_server: str, name: str) -> None:
    body = {**ASKED[name], "cache_salt": name}
    others = [{**each, "seed": number} for number in range(3) for each in ASKED.values()]
    async with httpx.AsyncClient(base_url=demo_server, timeout=60) as client:
        (alone,) = await say(client, body)
        fresh = {**body, "cache_salt": f"{name} again"}  # computed anew, not from the cache
        crowd = [say(client, other) for other in others]
        beside, streamed, *_ = await asyncio.gather(
            say(client, fresh), say_in_pieces(client, body), *crowd
        )
    assert beside == [alone] and streamed == alone and len(alone) > 10


@pytest.mark.parametrize("name", ["drawn", "picture", "schema"])
async def test_four_answers_are_the_same_four_again(demo_server: str, name: str) -> None:
    body = {**ASKED[name], "n": 4}
    async with httpx.AsyncClient(base_url=demo_server, timeout=60) as client:
        first = await say(client, body)
        again, crowd = await asyncio.gather(say(client, body), say(client, {**body, "n": 8}))
        other = await say(client, {**body, "seed": 12})
    assert again == first and len(set(first)) > 1 and other != first
    assert crowd[:4] == first, "how many are asked for changes none of them"
