"""A headless Chromium for tests of the page, and what it complained about."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "No Chromium here: apt install chromium"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run"]
ARGS += ["--disable-background-networking", "--disable-component-update"]  # where there is no net
START_MS = 60_000
SCREENSHOTS = "INTERNVL_SCREENSHOTS"  # a folder: where a person can look


def executable() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    path = executable()
    if path is None:
        pytest.skip(MISSING)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGS, timeout=START_MS)
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page in a browser profile of its own, and everything that went wrong in it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.foreign: list[str] = []  # URLs outside the server that were asked for
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", self._look)
        self.page.on("dialog", self._dismiss)

    def open(self) -> Page:
        self.page.goto(f"{self.url}/")
        return self.page

    def shoot(self, name: str) -> None:
        folder = os.environ.get(SCREENSHOTS)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def _hear(self, message: Any) -> None:
        is_refusal = "Failed to load resource" in message.text  # the page shows those itself
        if message.type == "error" and not is_refusal:
            self.complaints.append(message.text)

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()  # a page stands still under an open one

    def _look(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.foreign.append(request.url)
