"""The page and the figures as files: what is in them, what is not, and that the same gives the same."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from fhir_adapter.errors import SiteFileError
from fhir_adapter.report.formatting import format_cell
from fhir_adapter.results import Row

Case = Any  # the dataclass of conftest.py


class _Reader(HTMLParser):
    """Tags with their attributes, text by data-result, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: dict[str, set[str]] = {}
        self.text = ""
        self._open: list[str | None] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "br", "use"}:
            self._open.append(dict(attrs).get("data-result"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._open:
            self._open.pop()
        if tag in {"td", "th"}:
            self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data
        for result in self._open[-1:]:
            if result:
                self.shown.setdefault(result, set()).add(data.strip("() "))


def _read(path: Path) -> _Reader:
    return _Reader(path.read_text(encoding="utf-8"))


def test_same_inputs_same_bytes(small: Case, tmp_path: Path) -> None:
    """Two runs on the same landing differ in run id, times and server, and give the same page and figures."""
    first = small.render(tmp_path / "a")
    small.manifest |= {
        "run_id": "another",
        "started": "2031-01-01T00:00:00Z",
        "server": "http://other.invalid",
    }
    second = small.render(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    figures = sorted(path.name for path in (tmp_path / "a" / "figures").iterdir())
    assert figures == ["pfs.svg", "swimmer.svg", "waterfall.svg"]
    for name in figures:
        assert (tmp_path / "a" / "figures" / name).read_bytes() == (
            tmp_path / "b" / "figures" / name
        ).read_bytes()


def test_files_are_private(small: Case, tmp_path: Path) -> None:
    """The page and the figures may be read by their owner alone."""
    page = small.render(tmp_path / "run")
    modes = {path.stat().st_mode & 0o777 for path in (page, *(tmp_path / "run" / "figures").iterdir())}
    assert modes == {0o600}


def test_what_varies_between_runs_is_not_in_the_page(small: Case, tmp_path: Path) -> None:
    """Of the manifest only versions and study hash are shown."""
    text = small.render(tmp_path / "run").read_text()
    for hidden in ("20261122T230000Z-1a2b", "2026-11-22", "hospital.invalid", "4711"):
        assert hidden not in text
    for shown in ("9f" * 32, "2.3.3"):
        assert shown in text


def test_hostile_text_is_text(small: Case, tmp_path: Path) -> None:
    """Markup in a term, a subtype or a title is shown as written and never becomes an element."""
    small.study = small.study.model_copy(
        update={"study": small.study.study.model_copy(update={"title": "</title><script>bad()</script>"})}
    )
    small.findings[0] = type(small.findings[0])(code="<img src=x>", text="<iframe>", detail="x")
    page = small.render(tmp_path / "run")
    reader = _read(page)
    assert not {"script", "iframe", "img", "b"} & {tag for tag, _attributes in reader.tags}
    assert not any(name.startswith("on") for _tag, attributes in reader.tags for name in attributes)
    assert '<script>alert(1)</script> & "fever"' in reader.text
    assert "Well-differentiated <b>l" in reader.text  # in the waterfall, cut where the bar ends
    assert "$x^2$" in reader.text


def test_every_number_says_which_result_it_is(small: Case, tmp_path: Path) -> None:
    """Each cell of the displays stands in the page under the ids of its results, as it is formatted."""
    shown = _read(small.render(tmp_path / "run")).shown
    for display in small.results.displays:
        for row in display.rows:
            for cell in row.cells:
                for piece in format_cell(cell, small.results):
                    if piece.result:
                        assert piece.text.strip("()") in shown[piece.result]
    assert set(shown) <= set(small.results.results)


def test_a_median_that_is_not_reached_has_its_reason(small: Case, tmp_path: Path) -> None:
    """NR stands at the top of the page with the reason as explanation."""
    reader = _read(small.render(tmp_path / "run"))
    explained = [
        a for tag, a in reader.tags if tag == "abbr" and a.get("data-result") == "survival.pfs.median"
    ]
    assert explained
    assert explained[0]["title"] == "the survival function does not reach 0.5"


def test_sections_in_the_order_of_the_study(small: Case, tmp_path: Path) -> None:
    """The study file orders the sections; a display of a section that it forgets is shown all the same."""
    report = small.study.report.model_copy(
        update={"sections": ["survival", "published", "methods", "accounting"]}
    )
    small.study = small.study.model_copy(update={"report": report})
    reader = _read(small.render(tmp_path / "run"))
    sections = [attributes["id"] for tag, attributes in reader.tags if tag == "section"]
    assert sections == ["survival", "published", "toxicity", "response", "methods", "accounting", "versions"]


def test_structure_that_a_screen_reader_needs(small: Case, tmp_path: Path) -> None:
    """One h1, captions and scoped heads in tables, a name and a description for drawings, unique ids."""
    reader = _read(small.render(tmp_path / "run"))
    tags = Counter(tag for tag, _attributes in reader.tags)
    assert tags["h1"] == 1
    assert tags["caption"] == tags["table"] > 3
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in reader.tags if tag == "th")
    images = [attributes for tag, attributes in reader.tags if tag == "svg"]
    ids = Counter(attributes["id"] for _tag, attributes in reader.tags if attributes.get("id"))
    assert max(ids.values()) == 1
    assert len(images) == 3
    for image in images:
        assert image["role"] == "img"
        assert all(name in ids for name in str(image["aria-labelledby"]).split())
    links = {attributes["href"] for tag, attributes in reader.tags if tag == "a"}
    assert all(str(link)[1:] in ids for link in links)


def test_accounting_and_findings_are_counted(small: Case, tmp_path: Path) -> None:
    """Resources by type with their sums, reasons with their meaning, and findings by code with subjects."""
    text = " ".join(re.sub(r"\s+", " ", _read(small.render(tmp_path / "run")).text).split())
    assert "The sums agree." in text
    assert "Observation 2210 1290 912 8" in text
    assert "All types 2346 1421 917 8" in text
    assert "entered-in-error marked as entered in error AdverseEvent 5 5" in text
    assert "valueQuantity.value is text Observation 8 8" in text
    assert "unknown-code no concept map knows the code map 2 –" in text
    assert "lesion-without-identity a measurement that names no lesion map 1 1" in text


def test_own_output_does_not_change_the_page(small: Case, tmp_path: Path) -> None:
    """A run that meets what the run before it wrote gives the same page, so that nothing is written again."""
    first = small.render(tmp_path / "a").read_bytes()
    small.manifest["landing_sequence"] += 3
    for name, number in (("Observation", 2), ("DiagnosticReport", 1)):
        row = small.accounting.get(name, {"total": 0, "used": 0, "not_needed": {}, "quarantined": {}})
        not_needed = row["not_needed"] | {"own-output": number}
        small.accounting[name] = row | {"total": row["total"] + number, "not_needed": not_needed}
    assert small.render(tmp_path / "b").read_bytes() == first


def test_what_the_source_states_otherwise(small: Case, tmp_path: Path) -> None:
    """Differences of the pull are rows of the accounting, escaped, and no more than a page has room for."""
    plain = small.render(tmp_path / "plain").read_bytes()
    small.manifest["pull"] = {"differences": []}
    assert small.render(tmp_path / "none").read_bytes() == plain
    assert b"accounting-differences" not in plain
    odd = {"type": "<b>&Observation", "expected": None, "received": 3, "subjects": 0}
    many = [{"type": "Observation", "expected": 10 + n, "received": 9, "subjects": 20} for n in range(60)]
    small.manifest["pull"] = {"differences": [*many, odd]}
    page = small.render(tmp_path / "run")
    text = " ".join(_read(page).text.split())
    assert "Stated by the source and received Type Stated Received Subjects <b>&Observation – 3 –" in text
    assert "Observation 58 9 20 For each of these" in text
    assert "There are 11 more, in manifest.json." in text
    assert "<b>&Observation" not in page.read_text("utf-8")


def test_sums_that_are_off_are_said(small: Case, tmp_path: Path) -> None:
    """The page does not claim that sums agree when they do not."""
    small.accounting = {
        "landed": {"Patient": {"new": 65}},
        "disposed": {"Patient": dict(small.accounting["Patient"], used=64)},
    }
    text = _read(small.render(tmp_path / "run")).text
    assert "The sums do not agree." in text


def test_the_waterfall_lists_who_has_no_bar(small: Case, tmp_path: Path) -> None:
    """A subject without a measurement is named below the figure with the reason; bars have tooltips."""
    reader = _read(small.render(tmp_path / "run"))
    assert "1 of 6 subjects have no bar: no sum of diameters at baseline: 1 (S-05)." in reader.text
    assert "S-03 · −30.0% · PR · Non-L-sarcoma · UPS" in reader.text


def test_a_long_comparison_shows_first_what_differs(small: Case, tmp_path: Path) -> None:
    """Of many published values those that differ stand open, with their headings; all can be unfolded."""
    display = next(item for item in small.results.displays if item.id == "published")
    equal, differs = display.rows
    rows = (Row("Table 1"), *[equal] * 30, Row("Table 2"), *[equal] * 15, differs)
    small.results.displays[small.results.displays.index(display)] = msgspec.structs.replace(
        display, rows=rows
    )
    html = small.render(tmp_path / "run").read_text()
    before, folded = html.split('<details class="fold">')
    first = before[before.index('<table id="table-published-differences">') :]
    assert first.count("<tr") == 3
    assert "Table 2" in first
    assert "Table 1<" not in first
    assert "a misprint" in first
    assert folded[: folded.index("</details>")].count("<tr") == 49


def test_synthetic_data_are_called_so(small: Case, tmp_path: Path) -> None:
    """The banner stands where the study file or the manifest says so, and nowhere else."""
    assert "SYNTHETIC DATA" in small.render(tmp_path / "a").read_text()
    info = small.study.study.model_copy(update={"synthetic": False})
    small.study = small.study.model_copy(update={"study": info})
    assert "SYNTHETIC DATA" not in small.render(tmp_path / "b").read_text()
    small.manifest["synthetic"] = True
    assert "SYNTHETIC DATA" in small.render(tmp_path / "c").read_text()


def test_figure_files_stand_alone(small: Case, tmp_path: Path) -> None:
    """A figure's file is well-formed SVG with fixed colours; the page's copy follows the page's colours."""
    page = small.render(tmp_path / "run").read_text()
    for path in (tmp_path / "run" / "figures").iterdir():
        text = path.read_text()
        assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in text
        assert "currentColor" not in text
    assert "currentColor" in page
    assert "var(--series-1, #0b66a5)" in page


def test_a_site_can_replace_a_partial(small: Case, tmp_path: Path) -> None:
    """A template in the site's folder takes the place of the one that ships, and the rest stays."""
    folder = tmp_path / "templates" / "partials"
    folder.mkdir(parents=True)
    (folder / "footer.html.j2").write_text("<footer>{{ _('Hospital of') }} {{ page.study_id }}</footer>")
    small.template_dirs = [tmp_path / "templates"]
    text = small.render(tmp_path / "run").read_text()
    assert "<footer>Hospital of example</footer>" in text
    assert "<h1>" in text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "cannot be used"),
        ("{{ page.nothing }}", "cannot be rendered"),
        ("{{ ''.__class__.__mro__ }}", "cannot be rendered"),
        ("{% include '../../etc/passwd' %}", "cannot be used"),
    ],
)
def test_a_site_template_that_is_wrong(small: Case, tmp_path: Path, template: str, message: str) -> None:
    """A template that is wrong or reaches beyond the page is the site's error; nothing is written."""
    folder = tmp_path / "templates" / "partials"
    folder.mkdir(parents=True)
    (folder / "footer.html.j2").write_text(template)
    small.template_dirs = [tmp_path / "templates"]
    with pytest.raises(SiteFileError, match=message):
        small.render(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_whole_study(large: Callable[[int], Case], tmp_path: Path) -> None:
    """All kinds of figures and tables of a study of 57 subjects, through the analysis."""
    case = large(57)
    reader = _read(case.render(tmp_path / "run"))
    sections = [attributes["id"] for tag, attributes in reader.tags if tag == "section"]
    assert sections == [
        "summary", "flow", "baseline", "response", "survival", "toxicity", "exposure", "models", "published",
        "methods", "accounting", "findings", "versions",
    ]  # fmt: skip
    names = {path.stem for path in (tmp_path / "run" / "figures").iterdir()}
    assert names == {figure.id for figure in case.study.report.figures}
    shown = {result for result in reader.shown if result in case.results.results}
    in_displays = {
        key
        for display in case.results.displays
        for row in display.rows
        for cell in row.cells
        for key in cell.results
    }
    assert in_displays <= shown
    assert reader.shown["flow.analysed.n"] == {"57"}


@pytest.mark.parametrize(("subjects", "labelled"), [(140, True), (160, False)])
def test_many_subjects(large: Callable[[int], Case], tmp_path: Path, subjects: int, labelled: bool) -> None:
    """Above 150 bars the waterfall has no labels, above 120 subjects the swimmer has none; all are drawn."""
    case = large(subjects)
    figures = [figure for figure in case.study.report.figures if figure.kind in {"waterfall", "swimmer"}]
    settings = case.study.report.model_copy(update={"figures": figures})
    case.study = case.study.model_copy(update={"report": settings})
    case.render(tmp_path / "run")
    waterfall = (tmp_path / "run" / "figures" / "waterfall.svg").read_text()
    assert (">DDLPS</text>" in waterfall) is labelled
    assert waterfall.count(" · ") >= 3 * sum(case.datasets["ADSL"].query("ANALFL == 'Y'")["BESTPCHG"].notna())
    swimmer = (tmp_path / "run" / "figures" / "swimmer.svg").read_text()
    assert ">EX-001</text>" not in swimmer
    assert f">EX-{subjects:03} · " in swimmer
    shutil.rmtree(tmp_path / "run")
