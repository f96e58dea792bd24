"""The examples, and the commands in documents, run against the product as its user starts it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from clients.chat.command import main as chat
from server.settings import ServerSettings
from tests.deploy.files import read_yaml

ROOT = Path(__file__).parent.parent


EXAMPLES = ROOT / "clients" / "examples"
TWO = ("red circle", "blue square")
BOTH = ("first image shows a red circle and a blue square", "second image shows a green triangle")
SAYS = {
    "curl/text.sh": ("demo model",),
    "curl/image.sh": TWO,
    "curl/stream.sh": ('"content":', "data: [DONE]"),
    "python/text.py": ("8, 9, 10",),
    "python/image.py": TWO,
    "python/images.py": BOTH,
    "python/video.py": ("green circle", "right"),
    "python/stream.py": ("8, 9, 10", "tokens"),
    "python/structured.py": ("a green triangle",),
    "python/tools.py": ('sides({"shape": "a triangle"}) = 3', "The shape is a triangle."),
    "python/fan_out.py": ("4, 5.\n", "9, 10.\n", "19, 20.\n"),
    "python/batch.py": ("count-5 1, 2", "count-10 1, 2", "19, 20.\n"),
    "internvl/pipeline.py": TWO,
    "internvl/single_image.py": ("green triangle",),
    "internvl/text_only.py": ("small red circle\n",),
    "internvl/batched_images.py": (*TWO, "\nThe image shows a green triangle."),
    "internvl/batched_multi_image.py": ("The image shows a green triangle.\n", *BOTH),
    "internvl/video.py": ("green circle", "right"),
    "internvl/interleaved.py": (*BOTH, "green circle moves to the right.\nA green circle"),
}
JAVASCRIPT = {
    "openai_image.mjs": TWO,
    "ai_image.mjs": TWO,
    "ai_video.mjs": ("green circle", "right"),
    "ai_structured.mjs": ("a green triangle",),
}
RUN_BY = {".sh": "bash", ".py": sys.executable}


def run(base_url: str, *command: str) -> str:
    environment = {**os.environ, "OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "none"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=50
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", SAYS)
def test_examples_answer_right(demo_server: str, name: str) -> None:
    answer = run(demo_server, RUN_BY[Path(name).suffix], str(EXAMPLES / name))
    assert all(words in answer for words in SAYS[name]), answer


def test_langchain_describes_a_picture(demo_server: str) -> None:
    pytest.importorskip("langchain_openai")
    answer = run(demo_server, sys.executable, str(EXAMPLES / "python" / "langchain_image.py"))
    assert all(words in answer for words in TWO), answer


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples in JavaScript with their packages, in a folder that the tests may fill."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("JavaScript's examples need node and npm")
    folder = tmp_path_factory.mktemp("javascript") / "js"
    shutil.copytree(EXAMPLES / "js", folder, ignore=shutil.ignore_patterns("node_modules"))
    command = "npm install --no-audit --no-fund --no-package-lock --loglevel=error"
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, timeout=120)
    if any(word in done.stderr for word in ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT")):
        pytest.skip("JavaScript's examples need packages, and npm reaches no registry")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", JAVASCRIPT)
def test_javascript_answers_right(demo_server: str, javascript: Path, name: str) -> None:
    answer = run(demo_server, "node", str(javascript / name))
    assert all(words in answer for words in JAVASCRIPT[name]), answer


def test_every_example_is_run() -> None:
    files = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.[spm][hyj]*")}
    javascript = {f"js/{name}" for name in JAVASCRIPT}
    assert files == {*SAYS, *javascript, "python/langchain_image.py"}


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


COMMANDS = [*blocks("README.md", "bash"), *blocks("docs/quickstart.md", "bash")]
ANSWERS = ["blue square", "InternVL", "red circle", "green circle", "color", '"count"']


@pytest.mark.parametrize(
    ("block", "expected"), list(zip(COMMANDS, ANSWERS, strict=True)), ids=ANSWERS
)
def test_commands_of_documents_do_what_they_say(
    demo_server: str, block: str, expected: str
) -> None:
    command = block.replace("http://127.0.0.1:8000/v1", demo_server)
    command = command.replace("http://127.0.0.1:8000", demo_server.removesuffix("/v1"))
    answer = run(demo_server, "bash", "-euo", "pipefail", "-c", command)
    assert "error" not in json.loads(answer) and expected in answer, answer


def test_the_clients_page_shows_no_command_that_is_not_run() -> None:
    scripts = {path.read_text(encoding="utf-8") for path in EXAMPLES.glob("curl/*.sh")}
    assert set(blocks("docs/clients.md", "bash")) <= scripts


def test_the_helper_for_files_makes_parts_that_are_seen(demo_server: str) -> None:
    """The five lines that stand in for a client library of ours."""
    (helper,) = [block for block in blocks("docs/clients.md", "python") if "mimetypes" in block]
    names: dict[str, Any] = {}
    exec(helper, names)
    parts = [
        names["media"](str(ROOT / "docs" / "examples" / "shapes.png"), max_dynamic_patch=1),
        names["media"](str(ROOT / "docs" / "examples" / "moving.mp4"), num_frames=5),
        {"type": "text", "text": "What happens in the video?"},
    ]
    asked = {"messages": [{"role": "user", "content": parts}]}
    answer = httpx.post(f"{demo_server}/chat/completions", json=asked, timeout=30).json()
    assert "green circle" in answer["choices"][0]["message"]["content"]
    used = answer["usage"]["prompt_tokens_details"]
    assert (used["image_tiles"], used["video_frames"]) == (1, 5)


def test_litellms_configuration_leads_to_the_server(
    demo_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM itself wants another `openai` than ours; what it is told is tried without it."""
    monkeypatch.setenv("OPENAI_BASE_URL", demo_server)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    (entry,) = read_yaml(EXAMPLES / "litellm" / "config.yaml")["model_list"]
    told = {
        name: os.environ[value.removeprefix("os.environ/")] if "environ" in value else value
        for name, value in entry["litellm_params"].items()
    }
    protocol, _, model = told["model"].partition("/")
    assert protocol == "openai"
    with openai.OpenAI(base_url=told["api_base"], api_key=told["api_key"]) as client:
        assert client.models.retrieve(model).id == model


def test_pages_of_others_are_told_an_address_that_answers() -> None:
    """Open WebUI beside our containers, and LibreChat beside `make serve`."""
    page = read_yaml(EXAMPLES / "open-webui" / "compose.yaml")["services"]["open-webui"]
    server = read_yaml(ROOT / "docker-compose.yml")["services"]["cpu"]
    (alias,) = server["networks"]["default"]["aliases"]
    assert page["environment"]["OPENAI_API_BASE_URL"] == f"http://{alias}:8000/v1"
    (endpoint,) = read_yaml(EXAMPLES / "librechat" / "librechat.yaml")["endpoints"]["custom"]
    assert endpoint["baseURL"] == f"http://127.0.0.1:{ServerSettings().port}/v1"


def test_chat_describes_a_picture(demo_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture = str(ROOT / "docs" / "examples" / "shapes.png")
    assert chat(["--base-url", demo_server, "--image", picture, "-p", "What is on the left?"]) == 0
    assert "red circle" in capsys.readouterr().out
