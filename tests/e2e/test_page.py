"""The report of the reference study in a browser, on a telephone, a laptop and a large screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_the_report_opens_quietly_and_fits(browser: Any, reference_run: Path, width: int) -> None:
    """No console message, no request but the file itself, no sideways scrolling; the data are called synthetic."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    path = (reference_run / "report.html").as_uri()
    page.goto(path)
    assert ([], [path]) == (messages, requests)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_text("SYNTHETIC DATA", exact=False).first.is_visible()
    page.close()


def test_every_number_of_the_page_stands_in_results(browser: Any, reference_run: Path) -> None:
    """Each number that the page marks with a result id is in results.json under that id."""
    page = browser.new_page()
    page.goto((reference_run / "report.html").as_uri())
    ids = set(page.eval_on_selector_all("[data-result]", "all => all.map(one => one.dataset.result)"))
    known = set(json.loads((reference_run / "results.json").read_text("utf-8"))["results"])
    assert len(ids) > 500
    assert set() == ids - known
    page.close()
