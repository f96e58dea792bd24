"""The GPU check where there is nothing to check."""

import pytest
import torch

from model_runtime import gpu_check


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_it_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main() == 2
    assert "needs a CUDA device" in capsys.readouterr().out


def test_a_broken_check_fails_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> dict[str, float]:
        raise ValueError("no good")

    monkeypatch.setattr(gpu_check, "_checks", lambda: {"broken": broken})
    assert gpu_check._run("broken") == {"passed": False, "error": "ValueError: no good"}
