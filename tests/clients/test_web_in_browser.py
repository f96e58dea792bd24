"""The web page as people use it, in headless Chromium against real servers."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from server.engine.types import GenerationRequest, TextDelta
from tests.clients.browser import Tab, chromium
from tests.fakes import FakeEngine, Script, break_down, make_app, run_server, say_nothing_for_ever

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "docs" / "examples" / "shapes.png"
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def tab(browser: Browser, demo_server: str) -> Iterator[Tab]:
    """On the demo model, with a clean profile; nothing may be complained about in the end."""
    with opened(browser, demo_server.removesuffix("/v1")) as tab:
        yield tab


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    tab = Tab(browser, url, **options)
    try:
        yield tab
        assert not tab.complaints and not tab.foreign
    finally:
        tab.context.close()


@contextmanager
def scripted(
    browser: Browser, folder: Path, script: Script, **settings: Any
) -> Iterator[tuple[Tab, FakeEngine]]:
    """On the real front end over an engine that follows a script."""
    engine = FakeEngine(script)
    with run_server(make_app(folder, engine, **settings)) as url, opened(browser, url) as tab:
        yield tab, engine


def ask(page: Page, text: str) -> None:
    page.get_by_role("textbox", name="Message").fill(text)
    page.get_by_role("button", name="Send").click()


def answers(page: Page) -> Locator:
    return page.locator(".assistant .said")


def facts(page: Page) -> Locator:
    return page.locator(".assistant .facts").last


def axe(page: Page) -> AxeResults:
    return Axe().run(page)


def serious_findings(page: Page) -> list[str]:
    found = axe(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found if v["impact"] in SERIOUS]


def test_the_first_look(tab: Tab) -> None:
    page = tab.open()
    expect(page.get_by_role("heading", name="internvl-demo")).to_be_visible()
    expect(page.locator("#health")).to_have_text("ready")
    expect(page.get_by_role("heading", name="Show it a picture")).to_be_visible()
    assert page.title() == "internvl-demo"
    tab.shoot("first-look")


def test_one_click_describes_a_picture(tab: Tab) -> None:
    page = tab.open()
    page.get_by_role("button", name="Describe this picture").click()
    expect(answers(page)).to_contain_text("red circle and a blue square")
    expect(facts(page)).to_contain_text(re.compile(r"first token after \d+ ms"))
    expect(facts(page)).to_contain_text(re.compile(r"saw 5 tiles \(80 tokens\)"))
    tab.shoot("described")


def test_pictures_from_files_and_a_second_turn(tab: Tab) -> None:
    page = tab.open()
    page.locator("#files").set_input_files([SHAPES, SHAPES])
    expect(page.locator("#attachments img")).to_have_count(2)
    page.get_by_role("button", name="Remove shapes.png").first.click()
    expect(page.locator("#attachments img")).to_have_count(1)
    ask(page, "What is on the left?")
    expect(answers(page)).to_contain_text("red circle")
    expect(page.locator(".user .media img")).to_have_count(1)
    ask(page, "What is on the right?")
    expect(answers(page).last).to_contain_text("blue square")


def test_a_dropped_picture_is_attached(tab: Tab) -> None:
    page = tab.open()
    data = list(SHAPES.read_bytes())
    page.evaluate(
        """bytes => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
            files.items.add(new File(["x"], "notes.txt", { type: "text/plain" }));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: files }));
        }""",
        data,
    )
    expect(page.locator("#attachments img")).to_have_count(1)
    expect(page.get_by_role("alert")).to_contain_text("notes.txt is neither an image nor a video")


def test_a_video_shows_the_frames_that_the_model_saw(tab: Tab) -> None:
    page = tab.open()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Video frames").fill("6")
    page.get_by_role("button", name="Done").click()
    page.get_by_role("button", name="Describe this video").click()
    expect(answers(page)).to_contain_text("green circle")
    expect(facts(page)).to_contain_text("saw 6 frames")
    strip = page.get_by_role("img", name="The 6 frames that the model saw").locator("img")
    expect(strip).to_have_count(6)
    assert len({frame.get_attribute("src") for frame in strip.all()}) == 6
    tab.shoot("video")


def test_words_appear_as_they_come(browser: Browser, tiny_checkpoint: Path) -> None:
    async def slowly(_: GenerationRequest) -> AsyncIterator[TextDelta]:
        for number in range(10):
            await asyncio.sleep(0.1)
            yield TextDelta(f"**w{number}** ", 1)
        yield TextDelta("", 1, "stop")

    with scripted(browser, tiny_checkpoint, slowly) as (tab, _):
        page = tab.open()
        ask(page, "Count")
        expect(answers(page)).to_contain_text("w2")
        assert "w9" not in answers(page).inner_text()
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        expect(answers(page).locator("strong")).to_have_count(10)
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        expect(facts(page)).to_contain_text("tokens/s")


def test_stop_ends_the_answer_and_the_engines_work(browser: Browser, tiny_checkpoint: Path) -> None:
    with scripted(browser, tiny_checkpoint, say_nothing_for_ever) as (tab, engine):
        page = tab.open()
        for press in (
            lambda: page.get_by_role("button", name="Stop").click(),
            lambda: page.keyboard.press("Escape"),
        ):
            engine.something_aborted.clear()
            ask(page, "Go on")
            expect(answers(page).last).to_contain_text("…")
            press()
            expect(facts(page)).to_contain_text("stopped")
            assert engine.something_aborted.wait(5)
        expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_errors_are_told_kindly_and_the_next_question_works(tab: Tab) -> None:
    page = tab.open()
    page.get_by_role("button", name="Attach by URL").click()
    page.get_by_label("URL", exact=True).fill("http://10.0.0.1/cat.png")
    page.get_by_role("button", name="Attach", exact=True).click()
    expect(page.locator("#attachments")).to_contain_text("Image at 10.0.0.1")
    ask(page, "What is this?")
    failure = page.locator(".failure")
    expect(failure).to_contain_text("messages[0].content[0].image_url.url")
    assert "{" not in failure.inner_text()
    page.get_by_role("button", name="New conversation").click()
    page.get_by_role("button", name="Describe this picture").click()
    expect(answers(page)).to_contain_text("red circle")


def test_a_broken_stream_keeps_what_came(browser: Browser, tiny_checkpoint: Path) -> None:
    with scripted(browser, tiny_checkpoint, break_down) as (tab, _):
        page = tab.open()
        ask(page, "Hi")
        expect(answers(page)).to_contain_text("so far")
        expect(page.get_by_role("alert")).to_contain_text("The engine stopped")


def test_history_is_there_after_a_reload_and_can_be_deleted(tab: Tab) -> None:
    page = tab.open()
    page.get_by_role("button", name="Describe this picture").click()
    expect(facts(page)).not_to_be_empty()
    page.get_by_role("button", name="New conversation").click()
    ask(page, "Who are you?")
    expect(facts(page)).not_to_be_empty()
    page.reload()
    expect(answers(page)).to_have_count(1)
    titles = page.locator("#conversations .open")
    expect(titles).to_have_text(["Who are you?", "Describe the image."])
    titles.last.click()
    expect(answers(page)).to_contain_text("red circle")
    expect(page.locator(".user .media img")).to_be_visible()
    page.get_by_role("button", name="Delete Describe the image.").click()
    expect(titles).to_have_text(["Who are you?"])
    expect(page.get_by_role("heading", name="Show it a picture")).to_be_visible()


def test_edit_and_regenerate(tab: Tab) -> None:
    page = tab.open()
    page.get_by_role("button", name="Describe this picture").click()
    expect(facts(page)).not_to_be_empty()
    page.get_by_role("button", name="Regenerate").click()
    expect(facts(page)).not_to_be_empty()
    expect(answers(page)).to_have_count(1)
    page.get_by_role("button", name="Edit").click()
    expect(page.get_by_role("textbox", name="Message")).to_have_value("Describe the image.")
    expect(page.locator("#attachments img")).to_have_count(1)
    ask(page, "What is on the right?")
    expect(answers(page)).to_contain_text("blue square")
    expect(page.locator(".message")).to_have_count(2)


def test_settings_reach_the_request_and_stay(browser: Browser, tiny_checkpoint: Path) -> None:
    async def hello(_: GenerationRequest) -> AsyncIterator[TextDelta]:
        yield TextDelta("Hi", 1, "stop")

    with scripted(browser, tiny_checkpoint, hello) as (tab, engine):
        page = tab.open()
        page.get_by_role("button", name="Settings").click()
        for label, value in (("Temperature", "0.5"), ("Most tokens", "7"), ("Seed", "3")):
            page.get_by_label(label).fill(value)
        page.get_by_role("button", name="Done").click()
        page.reload()
        ask(page, "Hi")
        expect(answers(page)).to_have_text("Hi")
        sampling = engine.requests[-1].sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.seed) == (0.5, 7, 3)


def test_a_key_is_asked_for_and_used(browser: Browser, tiny_checkpoint: Path) -> None:
    async def hello(_: GenerationRequest) -> AsyncIterator[TextDelta]:
        yield TextDelta("Hi", 1, "stop")

    with scripted(browser, tiny_checkpoint, hello, api_key=("sesame",)) as (tab, _):
        page = tab.open()
        expect(page.get_by_role("alert")).to_contain_text("API key")
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("API key").fill("sesame")
        page.get_by_role("button", name="Done").click()
        expect(page.get_by_role("heading", name="tiny")).to_be_visible()
        ask(page, "Hi")
        expect(answers(page)).to_have_text("Hi")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Copy as curl").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
    assert "sesame" not in copied and "$OPENAI_API_KEY" in copied


def copy(page: Page, name: str) -> None:
    button = page.get_by_role("button", name=name)
    button.click()
    expect(button).to_have_count(0)  # for a while it says that it did


def test_what_is_copied_can_be_run(tab: Tab) -> None:
    page = tab.open()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Describe this picture").click()
    expect(facts(page)).not_to_be_empty()
    copy(page, "Copy as Python")
    code = page.evaluate("navigator.clipboard.readText()")
    compile(code, "snippet", "exec")
    assert f'base_url="{tab.url}/v1"' in code and '"type": "image_url"' in code
    copy(page, "Copy as curl")
    command = page.evaluate("navigator.clipboard.readText()")
    body = json.loads(command.split("<<'EOF'\n")[1].removesuffix("EOF\n"))
    assert body["model"] == "internvl-demo" and body["messages"][0]["role"] == "user"


EVIL = """
<script>window.hacked = 1; alert(1)</script>

<img src="http://evil.example/track.png" onerror="window.hacked = 2">

![x](http://evil.example/pixel.png) [click](javascript:window.hacked=3)
[good](https://example.com/) <a href="data:text/html,x">data</a>

<form action="http://evil.example/"><input name="a"></form>
<iframe src="http://evil.example"></iframe><svg onload="window.hacked = 4"></svg>
<style>body { display: none }</style><p style="position:fixed">p</p>
"""


def test_a_models_words_can_do_nothing(browser: Browser, tiny_checkpoint: Path) -> None:
    async def evil(_: GenerationRequest) -> AsyncIterator[TextDelta]:
        yield TextDelta(EVIL, 1)
        yield TextDelta("end", 1, "stop")

    with scripted(browser, tiny_checkpoint, evil) as (tab, _):
        page = tab.open()
        ask(page, EVIL)
        said = answers(page)
        expect(said).to_contain_text("end")
        for bad in ("script", "img", "form", "input", "iframe", "svg", "style", "[style]"):
            expect(said.locator(bad)).to_have_count(0)
        links = [link.get_attribute("href") for link in said.locator("a").all()]
        assert [link for link in links if link] == ["https://example.com/"]
        assert page.evaluate("window.hacked") is None
        expect(page.locator(".user .said")).to_contain_text("<script>")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_for_those_who_cannot_see_it_all(
    browser: Browser, demo_server: str, scheme: str
) -> None:
    url = demo_server.removesuffix("/v1")
    with opened(browser, url, color_scheme=scheme) as tab:
        page = tab.open()
        expect(page.locator("#health")).to_have_text("ready")
        assert serious_findings(page) == []
        page.get_by_role("button", name="Describe this video").click()
        expect(facts(page)).to_contain_text("frames")
        assert serious_findings(page) == []
        page.get_by_role("button", name="Settings").click()
        assert serious_findings(page) == []


def test_on_a_phone(browser: Browser, demo_server: str) -> None:
    url = demo_server.removesuffix("/v1")
    size = {"width": 360, "height": 740}
    with opened(browser, url, viewport=size, color_scheme="dark", has_touch=True) as tab:
        page = tab.open()
        page.get_by_role("button", name="Describe this picture").click()
        expect(facts(page)).not_to_be_empty()
        tab.shoot("phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.get_by_role("button", name="Conversations").click()
        expect(page.get_by_role("button", name="New conversation")).to_be_visible()
        page.get_by_role("button", name="Close the list").click()
        expect(page.get_by_role("button", name="New conversation")).to_be_hidden()
