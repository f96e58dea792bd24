"""A running engine over a tiny model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_runtime.checkpoint import load_checkpoint
from server.engine.client import WorkerEngine
from server.prompt.builder import PromptBuilder
from tests.server.engine.driving import make_engine


@pytest.fixture
def prompts(tiny_checkpoint: Path) -> PromptBuilder:
    return PromptBuilder(load_checkpoint(tiny_checkpoint, "tiny"), 2048)


@pytest.fixture
async def engine(tiny_checkpoint: Path, prompts: PromptBuilder) -> AsyncIterator[WorkerEngine]:
    engine = make_engine(tiny_checkpoint, prompts)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
