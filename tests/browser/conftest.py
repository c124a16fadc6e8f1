"""One headless Chromium for all tests here; without it they are skipped, or fail where a browser is required."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.browser import page_server
from tests.browser.asking import AskingPage
from tests.browser.opened import windows
from tests.browser.page_server import PageServer

REQUIRED = "BERTSMITH_REQUIRE_BROWSER"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker("browser")


def absent(reason: str) -> None:
    """Skip for want of a browser; fail where CI says that there has to be one."""
    if os.environ.get(REQUIRED, "") not in ("", "0"):
        pytest.fail(f"{reason}, and {REQUIRED} is set", pytrace=False)
    pytest.skip(f"{reason}: nothing is looked at in a browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("playwright is not installed")
    program = next((path for path in map(shutil.which, _NAMES) if path), None)
    if program is None:
        absent("chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # Chromium's own sandbox does not work for root, as in a container of CI.
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        found = playwright.chromium.launch(executable_path=program, args=arguments)
        yield found
        found.close()


@pytest.fixture(scope="session")
def running(browser: Any) -> Iterator[PageServer]:
    """One server of the page for all tests."""
    with page_server.running() as server:
        yield server


@pytest.fixture
def server(running: PageServer) -> PageServer:
    running.reset()
    return running


@pytest.fixture
def show(browser: Any, server: PageServer) -> Iterator[Callable[..., AskingPage]]:
    """Open the page in a window of some width, light or dark; at the end the browser may have said nothing."""
    quiet_ones = []
    with windows(browser, AskingPage) as opened:

        def open_page(*, quiet: bool = True, **more: Any) -> AskingPage:
            found = opened(f"{server.url}/ui", **more)
            found.page.locator("#about:has-text('Model'), #key:visible").first.wait_for()
            if quiet:
                quiet_ones.append(found)
            return found

        yield open_page
        for each in quiet_ones:
            assert each.said == []
            assert [url for url in each.asked if not url.startswith((server.url, f"blob:{server.url}"))] == []
