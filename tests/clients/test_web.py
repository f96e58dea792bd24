"""The page's files: what is sent with them, what is in them, and that they can be left out."""

import re
from pathlib import Path

import httpx
import pytest

from tests.fakes import make_app, run_server

WEB = Path(__file__).parents[2] / "clients" / "web"
FILES = sorted(
    str(path.relative_to(WEB))
    for path in WEB.rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc")
)
OWN = [name for name in FILES if name.endswith((".js", ".html", ".css")) and "/" not in name]


def test_every_file_is_served_under_a_strict_policy_and_without_a_key(
    tiny_checkpoint: Path,
) -> None:
    with run_server(make_app(tiny_checkpoint, api_key=("secret",))) as url:
        for path in ["/", *(f"/ui/{name}" for name in FILES)]:
            answer = httpx.get(url + path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = httpx.get(url + path, headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304 and not again.content
        assert httpx.get(f"{url}/").headers["content-type"] == "text/html; charset=utf-8"
        assert httpx.get(f"{url}/ui/main.js").headers["content-type"].startswith("text/javascript")
        assert httpx.get(f"{url}/v1/models").status_code == 401


@pytest.mark.parametrize(
    "path", ["/ui/", "/ui/__init__.py", "/ui/nothing.js", "/ui/../page.py", "/ui/%2e%2e/chat.py"]
)
def test_nothing_else_is(tiny_checkpoint: Path, path: str) -> None:
    with run_server(make_app(tiny_checkpoint)) as url:
        answer = httpx.get(httpx.URL(url, raw_path=path.encode()))
        assert answer.status_code == 404


def test_it_can_be_left_out(tiny_checkpoint: Path) -> None:
    with run_server(make_app(tiny_checkpoint, no_ui=True)) as url:
        for path in ("/", "/ui/main.js"):
            assert httpx.get(url + path).status_code == 404
        assert httpx.get(f"{url}/v1/models").status_code == 200


@pytest.mark.parametrize("name", OWN)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = (WEB / name).read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href|from|import|url)\s*[=(]?\s*["']?(?:https?:)?//""", text)
    assert len(text.splitlines()) < 300


def test_scripts_ask_for_elements_that_exist() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    there = set(re.findall(r'\bid="([\w-]+)"', page))
    scripts = "".join(
        (WEB / name).read_text(encoding="utf-8") for name in OWN if name != "index.html"
    )
    asked = set(re.findall(r'\$\("([\w-]+)"\)', scripts))
    assert asked and asked <= there
    used = set(re.findall(r'"ui/([\w./-]+)"', page))
    assert used <= set(FILES)


def test_libraries_come_with_their_licences() -> None:
    libraries = [name for name in FILES if name.startswith("vendor/") and name.endswith(".js")]
    assert libraries == ["vendor/marked.js", "vendor/purify.js"]
    for name in libraries:
        licence = WEB / name.replace(".js", ".LICENSE")
        assert "Permission is hereby granted" in (text := licence.read_text()) or "Apache" in text
