"""The documents tell the truth about names: settings, commands, files."""

import dataclasses
import re
from pathlib import Path

import pytest

from clients.batch.command import make_parser as make_batch_parser
from clients.bench.options import make_parser as make_bench_parser
from clients.chat.options import make_parser as make_chat_parser
from server.api.completions.schemas import CompletionRequest
from server.api.messages.schemas import MessagesRequest
from server.api.responses.schemas import ResponsesRequest
from server.api.schemas import ChatCompletionRequest, Wire
from server.media.settings import MediaSettings
from server.settings import ServerSettings, flag

ROOT = Path(__file__).parent.parent
OTHER_FLAGS = {
    *("--print-config", "--json"),  # serve, doctor
    *("--only", "--shape", "--threads", "--per-kind"),  # the benches
    "--profile",  # docker compose
}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for setting in dataclasses.fields(ServerSettings):
        name = "MODEL" if setting.name == "model" else flag(setting.name)
        default = "" if setting.default in (None, (), "") else f"`{setting.default}`"
        assert f"| `{name}` | {default} | {setting.metadata['help']} |" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_commands_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.M):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_flags_exist(document: Path) -> None:
    """Those of `serve`, of our other commands, and of the tools that documents speak of."""
    settings = {flag(setting.name) for setting in dataclasses.fields(ServerSettings)}
    for make in (make_bench_parser, make_chat_parser, make_batch_parser):
        settings |= set(make()._option_string_actions)
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - settings - OTHER_FLAGS == set()


@pytest.mark.parametrize(
    "request_type", [ChatCompletionRequest, CompletionRequest, ResponsesRequest, MessagesRequest]
)
def test_every_field_of_a_request_is_documented(request_type: type[Wire]) -> None:
    rows = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").splitlines()
    named = {name for row in rows if row[:1] == "|" for name in re.findall("`(.*?)`", row)}
    assert set(request_type.model_fields) <= named


def test_media_limits_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "media.md").read_text(encoding="utf-8")
    limits = MediaSettings()
    assert f"{limits.max_image_bytes >> 20} MiB, {limits.max_video_bytes >> 20} MiB" in text
    assert f"{limits.max_image_pixels // 10**6} megapixels" in text
    assert f"{limits.max_video_frames:,} frames" in text
