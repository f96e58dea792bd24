"""The README's examples, run against the product as its user starts it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clients.chat.command import main as chat

ROOT = Path(__file__).parent.parent


def run(base_url: str, *command: str) -> str:
    environment = {**os.environ, "OPENAI_BASE_URL": base_url}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("bash", "clients/examples/curl_image.sh"), ("red circle", "blue square")),
        ((sys.executable, "clients/examples/openai_image.py"), ("red circle", "blue square")),
        ((sys.executable, "clients/examples/openai_video.py"), ("green circle", "right")),
    ],
    ids=["curl", "image", "video"],
)
def test_examples_answer_right(
    demo_server: str, command: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    answer = run(demo_server, *command)
    assert all(words in answer for words in expected), answer


BLOCKS = re.findall(
    r"```bash\n(.*?)```", (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8"), re.DOTALL
)
WORDS = ["InternVL", "red circle", "green circle", "color", '"count"']


@pytest.mark.parametrize(("block", "expected"), list(zip(BLOCKS, WORDS, strict=True)), ids=WORDS)
def test_the_quick_start_does_what_it_says(demo_server: str, block: str, expected: str) -> None:
    command = block.replace("http://127.0.0.1:8000/v1", demo_server)
    command = command.replace("http://127.0.0.1:8000", demo_server.removesuffix("/v1"))
    answer = run(demo_server, "bash", "-euo", "pipefail", "-c", command)
    assert "error" not in json.loads(answer) and expected in answer, answer


def test_chat_describes_a_picture(demo_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(ROOT / "docs" / "examples" / "shapes.png")
    assert chat(["--base-url", demo_server, "--image", picture, "-p", "What is on the left?"]) == 0
    assert "red circle" in capsys.readouterr().out
