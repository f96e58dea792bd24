"""One server with short deadlines for the whole folder, over a fake engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import make_app, run_server


@pytest.fixture(scope="package")
def url(tiny_checkpoint: Path) -> Iterator[str]:
    app = make_app(tiny_checkpoint, max_body_bytes=1 << 20)
    limits = {"head_timeout": 1.0, "body_timeout": 1.0, "linger_timeout": 0.2}
    with run_server(app, **limits) as base:
        yield base
