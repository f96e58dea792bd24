"""One server per test file, with a fake engine and fake media behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
