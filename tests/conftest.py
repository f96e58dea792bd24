"""Fixtures that several parts share."""

from pathlib import Path

import pytest

from tests.checkpoints import make_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random-weight checkpoint."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny-checkpoint"))
