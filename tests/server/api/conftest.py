"""One server per test file, with a fake engine and fake media behind."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model_runtime.checkpoint import load_checkpoint
from model_runtime.protocol import EngineConfig
from server.engine.client import WorkerEngine
from server.prompt.builder import PromptBuilder
from tests.fakes import FakeEngine, FakeMedia, make_app, run_server


@pytest.fixture(scope="module")
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture(scope="module")
def media() -> FakeMedia:
    return FakeMedia()


@pytest.fixture(scope="module")
def url(tiny_checkpoint: Path, engine: FakeEngine, media: FakeMedia) -> Iterator[str]:
    app = make_app(tiny_checkpoint, engine, media, max_body_bytes=1 << 20)
    with run_server(app) as base:
        yield base


@pytest.fixture(scope="module")
def worker_url(tiny_checkpoint: Path) -> Iterator[str]:
    """A server with a real worker and a tiny model, ready."""
    prompts = PromptBuilder(load_checkpoint(tiny_checkpoint, "tiny"), 2048)
    engine = WorkerEngine(
        EngineConfig(checkpoint_path=str(tiny_checkpoint), device="cpu"),
        model_id="tiny",
        make_detokenizer=prompts.detokenizer,
    )
    with run_server(make_app(tiny_checkpoint, engine, FakeMedia())) as base:
        for _ in range(600):
            if httpx.get(f"{base}/readyz").status_code == 200:
                break
            time.sleep(0.05)
        yield base
