"""OpenAI's clients for the demo server."""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest


@pytest.fixture
def client(demo_server: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=demo_server, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def many(demo_server: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=demo_server, api_key="none", max_retries=0) as client:
        yield client
