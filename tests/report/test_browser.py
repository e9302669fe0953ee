"""The page in Chromium: on a telephone, a laptop and a large screen, light and dark, and for axe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Where the report of this module is kept once it is rendered."""
    return [tmp_path_factory.mktemp("report")]


@pytest.mark.parametrize(
    ("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light"), (1920, "dark")]
)
def test_the_page_is_quiet_fits_and_is_accessible(
    browser: Any, report: list[Path], large: Callable[[int], Any], width: int, scheme: str
) -> None:
    """No message, no request, no sideways scrolling of the page, and nothing for axe to complain about."""
    folder = report[0]
    path = folder / "report.html"
    if not path.exists():
        large(57).render(folder)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    assert messages == []
    assert requests == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 390:
        page.click("nav details summary")
        assert page.is_visible("nav details a[href='#methods']")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    context.close()


def test_wide_tables_scroll_in_their_own_frame(
    browser: Any, report: list[Path], large: Callable[[int], Any]
) -> None:
    """On a telephone the wide table scrolls and its first column stays in sight."""
    folder = report[0]
    if not (folder / "report.html").exists():
        large(57).render(folder)
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((folder / "report.html").as_uri())
    frame = page.locator(".table-wrap:has(#table-response_by_type)")
    frame.evaluate("element => element.scrollLeft = 200")
    assert frame.evaluate("element => element.scrollLeft") == 200
    stub = page.locator("#table-response_by_type tbody th.stub").first
    assert stub.bounding_box()["x"] == pytest.approx(frame.bounding_box()["x"], abs=1)
    page.close()
