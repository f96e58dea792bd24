"""Answers and arguments obey their schemas: random ones, many at once, drawn at random."""

import asyncio
import json
import random
from typing import Any

import httpx
import jsonschema
import pytest

from tests.semantic.schemas import random_schema

NUM_SCHEMAS, NUM_TOOLS, AT_ONCE = 200, 30, 16
SAMPLING = {"temperature": 1.0, "max_tokens": 1500}
QUESTION = [{"role": "user", "content": "Describe yourself."}]


async def ask_all(url: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    turns = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def ask(number: int, body: dict[str, Any]) -> dict[str, Any]:
            asked = {"messages": QUESTION, "seed": number, **SAMPLING, **body}
            async with turns:
                answer = await client.post("/chat/completions", json=asked)
            assert answer.status_code == 200, (body, answer.text)
            choice: dict[str, Any] = answer.json()["choices"][0]
            return choice

        return await asyncio.gather(*(ask(*item) for item in enumerate(bodies)))


def check(text: str, schema: dict[str, Any]) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))


async def test_two_hundred_answers_obey(demo_server: str) -> None:
    chance = random.Random(5)
    schemas = [random_schema(chance) for _ in range(NUM_SCHEMAS)]
    bodies = [
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema, "strict": number % 2 == 0},
            }
        }
        for number, schema in enumerate(schemas)
    ]
    choices = await ask_all(demo_server, bodies)
    assert [choice["finish_reason"] for choice in choices] == ["stop"] * NUM_SCHEMAS
    for choice, schema in zip(choices, schemas, strict=True):
        check(choice["message"]["content"], schema)
    assert len({choice["message"]["content"] for choice in choices}) > NUM_SCHEMAS * 0.8


@pytest.mark.parametrize("demand", ["required", "named"])
async def test_arguments_obey(demo_server: str, demand: str) -> None:
    chance = random.Random(6)
    schemas = [random_schema(chance) for _ in range(NUM_TOOLS)]
    named = {"type": "function", "function": {"name": "act"}}
    bodies = [
        {
            "tools": [{"type": "function", "function": {"name": "act", "parameters": schema}}],
            "tool_choice": "required" if demand == "required" else named,
            "parallel_tool_calls": False,
        }
        for schema in schemas
    ]
    for choice, schema in zip(await ask_all(demo_server, bodies), schemas, strict=True):
        assert choice["finish_reason"] == "tool_calls"
        (call,) = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "act"
        check(call["function"]["arguments"], schema)
