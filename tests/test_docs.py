"""The documents tell the truth about names: settings, commands, files."""

import dataclasses
import re
from pathlib import Path

import pytest
from annotated_types import Le, MaxLen
from pydantic import BaseModel
from starlette.routing import Route

from clients.batch.command import make_parser as make_batch_parser
from clients.bench.options import make_parser as make_bench_parser
from clients.chat.options import make_parser as make_chat_parser
from server.api.completions.schemas import CompletionRequest
from server.api.messages.schemas import MessagesRequest
from server.api.responses.schemas import ResponsesRequest
from server.api.schemas import (
    ChatCompletionRequest,
    ProcessorBounds,
    StructuredOutputs,
    Wire,
)
from server.media.settings import MediaSettings
from server.settings import ServerSettings, flag
from tests.fakes import make_app

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "clients" / "examples"
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


def anchors(document: Path) -> set[str]:
    """What a link may name in a document, as GitHub makes it of the headings."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> list[tuple[Path, str]]:
    """Files that a document links to, or shows, with the anchors in them."""
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^):\s]+)\)", text) + re.findall(r'(?:src|href)="([^":]+)"', text)
    pairs = (target.partition("#") for target in targets)
    return [
        ((document.parent / path).resolve() if path else document, name) for path, _, name in pairs
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for path, anchor in links(document):
        assert path.exists(), path
        assert not anchor or anchor in anchors(path), f"{path.name}#{anchor}"


def test_the_readme_leads_to_every_page() -> None:
    linked = {path for path, _ in links(ROOT / "README.md")}
    assert set(DOCUMENTS[1:]) - linked == set()


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 250


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


def largest(request_type: type[BaseModel]) -> dict[str, int]:
    """What a field may be, or hold, at most."""
    return {
        name: int(limit.le if isinstance(limit, Le) else limit.max_length)
        for name, field in request_type.model_fields.items()
        for limit in field.metadata
        if isinstance(limit, Le | MaxLen)
    }


@pytest.mark.parametrize(
    "request_type", [ChatCompletionRequest, CompletionRequest, ProcessorBounds, StructuredOutputs]
)
def test_limits_of_fields_are_documented(request_type: type[Wire]) -> None:
    rows = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").splitlines()
    obvious = {"top_p", "min_p", "top_k", "best_of"}  # shares, more than any vocabulary, n
    for name, limit in largest(request_type).items():
        told = " ".join(row for row in rows if row[:1] == "|" and f"`{name}`" in row)
        numbers = {number.replace(",", "") for number in re.findall(r"\d[\d,]*", told)}
        assert name in obvious or str(limit) in numbers, name


def test_media_limits_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "media.md").read_text(encoding="utf-8")
    limits = MediaSettings()
    assert f"{limits.max_image_bytes >> 20} MiB, {limits.max_video_bytes >> 20} MiB" in text
    assert f"{limits.max_image_pixels // 10**6} megapixels" in text
    assert f"{limits.max_video_frames:,} frames" in text


@pytest.mark.parametrize("document", ["README.md", "docs/clients.md"])
def test_examples_stand_in_documents_as_they_are(document: str) -> None:
    """A block below the link to an example is that file, so what is shown is what the tests run."""
    path = ROOT / document
    shown = re.findall(
        r"\]\(([^)]*clients/examples/[^)]+)\):\n\n```\w+\n(.*?)```",
        path.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert shown
    for target, block in shown:
        assert block == (path.parent / target).read_text(encoding="utf-8"), target


def test_the_clients_page_leads_to_every_example() -> None:
    files = {path for path in EXAMPLES.glob("*/*") if path.is_file()}
    assert files - {path for path, _ in links(ROOT / "docs" / "clients.md")} == set()


def test_codes_of_errors_are_documented_and_exist() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "server").rglob("*.py"))
    codes = set(re.findall(r'\bcode ?= ?"([a-z_]+)"', source))
    codes |= set(re.findall(r'(?:MediaRefused|DecodeRefusal)\(\s*"([a-z_]+)"', source))
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("## Errors")[2]
    media = (ROOT / "docs" / "media.md").read_text(encoding="utf-8").partition("## Errors")[2]
    named = set(re.findall("`([a-z_]+)`", api)) | set(re.findall("`(media_[a-z_]+)`", media))
    assert codes - named == {"media_invalid"}  # the base of the others
    assert {code for code in named if f'"{code}"' not in source} == set()


def test_routes_are_documented_and_exist(tiny_checkpoint: Path) -> None:
    routes = make_app(tiny_checkpoint).routes
    paths = {re.sub("{.*?}", "{id}", route.path) for route in routes if isinstance(route, Route)}
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:(?:GET|POST|DELETE) |`)(/[\w/{}.]*)", text))
    assert paths - named == {"/ui/{id}", "/docs/oauth2-redirect"}  # of pages
    assert named <= paths


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(
        r"`((?:server|model_runtime|clients|tests|deploy|docs)/[\w./-]*)`", text
    ):
        assert (ROOT / name).exists(), name
    for module in re.findall(r"python -m ((?:tests|model_runtime|server)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
