"""The page that defines the datasets: complete, escaped, and readable on a telephone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from fhir_adapter.datasets import conform, metadata
from fhir_adapter.export.definition import render_definition
from fhir_adapter.export.tables import Note, study_tables
from fhir_adapter.study import Study

HOSTILE = '<script>alert(1)</script> & "more"'


class _Reader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.variables: dict[str, list[str]] = {}
        self.open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
            if name := dict(attrs).get("id"):
                self.variables[name] = self.rows[-1]
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = self.open and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data


def _page() -> str:
    study = Study.model_validate(
        {
            "study": {
                "id": "example",
                "title": HOSTILE,
                "data_cutoff": "2022-07-31",
                "consent": {"policy": "required"},
                "synthetic": True,
            },
            "cohort": {"candidates": {"all_patients": True}},
            "treatment": {"drugs": [{"id": "a", "label": "A", "concept": "A"}]},
            "baseline": {
                "characteristics": [
                    {
                        "variable": "HISTOLOGY",
                        "label": HOSTILE,
                        "dataset": "MH",
                        "source": "MHMORPH",
                        "where": {"variable": "MHCAT", "op": "eq", "value": "PRIMARY"},
                        "pick": "first",
                        "on_or_before": "baseline",
                        "levels": [{"value": "LPS", "label": "<i>Liposarcoma</i>"}],
                    }
                ]
            },
        }
    )
    adsl = conform("ADSL", [{"STUDYID": "example", "USUBJID": "S-01", "HISTOLOGY": "LPS", "SAFFL": "Y"}])
    frames = {name: conform(name, []) for name in metadata()} | {"ADSL": adsl}
    note = Note("not-ascii", "1 values have characters outside ASCII", "ADSL", "HISTOLOGY", 1, "xpt")
    return render_definition(study_tables(frames, study), study, [note])


@pytest.fixture(scope="module")
def page() -> str:
    """The page of a study whose every text is hostile, on one subject."""
    return _page()


def test_each_variable_has_its_row(page: str) -> None:
    """Every variable of the metadata and what the study adds, with label, type, length, codes, origin and source."""
    found = _Reader(page).variables
    known = {f"{dataset.name}.{one.name}" for dataset in metadata().values() for one in dataset.variables}
    assert known | {"ADSL.HISTOLOGY", "ADSL.SAFFL", "ADSL.FASFL", "ADSL.RESPFL"} >= set(found) >= known
    assert ["USUBJID", "Unique Subject Identifier", "text", "64", "", "Assigned"] == found["DM.USUBJID"][:6]
    assert ["DTHDT", "Date of Death", "date", "", "", "Derived"] == found["ADSL.DTHDT"][:6]
    assert [
        "AVALC", "Analysis Value", "text", "20", "Response", "Derived",
        "RECIST 1.1: target 4.3.1, non-target 4.3.3, new lesions 4.3.5, overall Tables 1 and 2, best 4.6",
    ] == found["ADRS.AVALC"]  # fmt: skip
    how = "of rows that satisfy the condition of HISTOLOGY, by the baseline visit (study file)"
    assert [
        "HISTOLOGY (HISTOLOG in XPT)", HOSTILE, "text", "200", HOSTILE, "Derived",
        f"First value of MH.MHMORPH, {how}",
    ] == found["ADSL.HISTOLOGY"]  # fmt: skip
    how = "Y if in the analysis set safety of the study file"
    assert ["Yes, or null", "Derived", how] == found["ADSL.SAFFL"][4:]


def test_the_page_says_how_many_records_there_are(page: str) -> None:
    """Keys and the number of records of each dataset, and the notes of an export."""
    text = re.sub(r"<[^>]+>", "", page)
    assert "ADaM, 1 record. Keys: STUDYID, USUBJID." in text
    assert "SDTM-like, 0 records. Keys: STUDYID, USUBJID, TULNKID, TUEVAL, TUEVALID." in text
    assert "ADSL.HISTOLOGY (xpt): 1 values have characters outside ASCII." in text
    assert "SYNTHETIC DATA" in text


def test_nothing_of_a_study_is_markup(page: str) -> None:
    """Texts of the study file are escaped; there is no script, and no link but to the page itself."""
    reader = _Reader(page)
    assert {"script", "i", "img"} & {tag for tag, _ in reader.tags} == set()
    ids = [found["id"] for _, found in reader.tags if found.get("id")]
    assert len(ids) == len(set(ids))
    links = {str(found["href"]) for tag, found in reader.tags if tag == "a"}
    assert {link for link in links if link[1:] not in ids} == set()


def test_the_same_datasets_give_the_same_page(page: str) -> None:
    """The page has no clock."""
    assert page == _page()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_the_page_is_quiet_fits_and_is_accessible(
    browser: Any, page: str, tmp_path: Path, width: int, scheme: str
) -> None:
    """No message, no request, no sideways scrolling of the page, and nothing for axe to complain about."""
    path = tmp_path / "define.html"
    path.write_text(page, encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    shown = context.new_page()
    messages: list[str] = []
    requests: list[str] = []
    shown.on("console", lambda message: messages.append(message.text))
    shown.on("pageerror", lambda error: messages.append(str(error)))
    shown.on("request", lambda request: requests.append(request.url))
    shown.goto(path.as_uri())
    assert ([], [path.as_uri()]) == (messages, requests)
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    if width == 390:
        shown.click("nav details summary")
        assert shown.is_visible("nav details a[href='#ADSL']")
    found = Axe().run(shown)
    assert found.violations_count == 0, found.generate_report()
    context.close()
