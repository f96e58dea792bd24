"""A running engine over a tiny model."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_runtime.checkpoint import load_checkpoint
from server.engine import worker_process
from server.engine.client import WorkerEngine
from server.prompt.builder import PromptBuilder
from tests.server.engine.driving import make_engine, running


@pytest.fixture
def prompts(tiny_checkpoint: Path) -> PromptBuilder:
    return PromptBuilder(load_checkpoint(tiny_checkpoint, "tiny"), 2048)


@pytest.fixture
async def engine(tiny_checkpoint: Path, prompts: PromptBuilder) -> AsyncIterator[WorkerEngine]:
    async with running(make_engine(tiny_checkpoint, prompts)) as engine:
        yield engine


@pytest.fixture
def with_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers suffer from requests with certain names."""
    monkeypatch.setattr(worker_process, "WORKER_MODULE", "tests.server.engine.faulty_worker")
