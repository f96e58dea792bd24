"""`openai` for JavaScript drives every endpoint: one program, whose findings are looked at here."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.media import FOLDER, SHAPES, TRIANGLE

HERE = Path(__file__).parent / "js"
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")
EVENTS = ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"]
EVENTS += ["output_text.done", "content_part.done", "output_item.done", "completed"]


@pytest.fixture(scope="module")
def found(demo_server: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("sdk") / "js"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("node_modules"))
    command = "npm install --no-audit --no-fund --no-package-lock --loglevel=error"
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, timeout=120)
    if any(word in done.stderr for word in NO_NETWORK):
        pytest.skip("npm reaches no registry")
    assert done.returncode == 0, done.stderr
    environment = os.environ | {"OPENAI_BASE_URL": demo_server, "OPENAI_API_KEY": "none"}
    run = ["node", "drive.mjs", str(FOLDER)]
    done = subprocess.run(
        run, cwd=folder, capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_chat(found: Any) -> None:
    assert found["chat"] == SHAPES and found["helper"] == TRIANGLE
    assert "".join(found["pieces"]) == SHAPES
    assert found["usage"]["completion_tokens"] > 5
    assert "green circle moves to the right" in found["video"]
    assert found["many"] == [SHAPES, TRIANGLE] * 4


def test_calls_and_objects(found: Any) -> None:
    shapes = ("circle", "square", "triangle")
    assert found["call"]["name"] == "sides"
    assert json.loads(found["call"]["arguments"])["shape"] in shapes
    assert found["parsed"]["shape"] in shapes


def test_responses(found: Any) -> None:
    assert found["response"] == found["kept"] == SHAPES and "red circle" in found["next"]
    assert found["events"] == [f"response.{name}" for name in EVENTS]


def test_the_others(found: Any) -> None:
    assert len(found["completions"]) == 2 and all(found["completions"])
    assert found["models"] == [found["model"]] == ["internvl-demo"]
    assert found["batch"] == [SHAPES, TRIANGLE]


def test_errors(found: Any) -> None:
    assert found["error"] == {
        "kind": "BadRequestError",
        "status": 400,
        "param": "temperature",
        "code": "invalid_value",
        "requestID": "string",
    }
