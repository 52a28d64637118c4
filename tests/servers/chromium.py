"""A real headless Chromium (Debian's package), driven by Playwright.

    with Chromium() as browser:
        page = browser.visit("http://127.0.0.1:8025")

Fixture `chromium`: the session's. Nothing of Playwright's own browsers is downloaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Playwright,
    ViewportSize,
    sync_playwright,
)

#: No sandbox as root only, and none of the calls home that a browser makes by itself.
_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PHONE: ViewportSize = {"width": 390, "height": 844}
#: The first that is there: without windows a page costs a third of the processor time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def executable() -> str:
    """Where it is. Fails where it is not installed: tests/servers/install.sh does that."""
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError("There is no Chromium: run tests/servers/install.sh")


class Chromium:
    """One browser process; each `context` is a browser of somebody's own, without cookies."""

    def __enter__(self) -> Chromium:
        self._playwright: Playwright = sync_playwright().start()
        flags = [*_FLAGS, *(["--no-sandbox"] if os.getuid() == 0 else [])]
        self._browser: Browser = self._playwright.chromium.launch(
            executable_path=executable(), args=flags
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()

    def context(
        self, *, dark: bool = False, phone: bool = False, scripts: bool = True, zone: str = "UTC"
    ) -> BrowserContext:
        """`scripts` False: JavaScript is switched off. `zone`: the reader's, as `Europe/Vienna`."""
        context = self._browser.new_context(
            viewport=PHONE if phone else {"width": 1280, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            locale="en-GB",
            timezone_id=zone,
        )
        context.set_default_timeout(15_000)
        return context


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser
