"""Parts of the two-arm study through every stage: figures agree with ADTTE, and poor cohorts give reasons."""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from fhir_adapter.accounting import summary
from fhir_adapter.analysis.stage import analyse
from fhir_adapter.derive.stage import derive
from fhir_adapter.mapping.stage import map_resources
from fhir_adapter.report.render import render_report
from fhir_adapter.results import Results
from fhir_adapter.study import Study, load_study

ROOT = Path(__file__).parent.parent.parent
STUDY, _HASH = load_study(ROOT / "mappings" / "studies" / "two-arm-sarcoma.yaml")
CUTOFF = dt.date(2022, 12, 31)
MONTH = 30.4375


@dataclass(frozen=True)
class _Raw:
    """A landed resource."""

    type: str
    id: str
    version: str
    sequence: int
    subject: str | None
    body: bytes


@dataclass(frozen=True)
class Made:
    """What the stages left."""

    datasets: dict[str, pd.DataFrame]
    results: Results
    folder: Path

    @property
    def page(self) -> str:
        """The report without its style."""
        html = (self.folder / "report.html").read_text("utf-8")
        return re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)

    def times(self, param: str) -> pd.DataFrame:
        """ADTTE of one endpoint, on USUBJID."""
        rows = self.datasets["ADTTE"]
        return rows[rows["PARAMCD"] == param].set_index("USUBJID")


def _build() -> ModuleType:
    path = Path(__file__).parent.parent / "data" / "second" / "build.py"
    specification = importlib.util.spec_from_file_location("second_build_small", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["second_build_small"] = module
    specification.loader.exec_module(module)
    return module


BUILD = _build()
EVERYBODY: list[Any] = BUILD.subjects()


def _landed(keep: set[str]) -> list[_Raw]:
    found = []
    for number, resource in enumerate(BUILD.resources(), start=1):
        own = re.match(r"two-[ab]\d\d", resource["id"])
        if own is not None and own[0].upper() not in keep:
            continue
        patient = f"Patient/{own[0]}" if own is not None else None
        body = json.dumps(resource).encode()
        found.append(_Raw(resource["resourceType"], resource["id"], "1", number, patient, body))
    return found


def run(folder: Path, keep: Callable[[Any], bool], **changes: Any) -> Made:
    """Maps, derives, analyses and reports the subjects to keep."""
    study = Study.model_validate(STUDY.model_dump(by_alias=True) | changes)
    names = {one.usubjid for one in EVERYBODY if keep(one)}
    mapped = map_resources(_landed(names), study, key=b"k" * 32)
    derived = derive(mapped.datasets, study, cutoff=CUTOFF)
    datasets = {**mapped.datasets, **derived.datasets}
    results = analyse(datasets, study, CUTOFF.isoformat())
    render_report(
        study=study,
        results=results,
        datasets=datasets,
        accounting={"disposed": summary(mapped.dispositions)},
        findings=[*mapped.findings, *derived.findings],
        manifest={"versions": {}, "study_hash": ""},
        flow=[],
        folder=folder,
    )
    return Made(datasets, results, folder)


def _is(*names: str) -> Callable[[Any], bool]:
    patterns = [BUILD.PATTERNS[name] for name in names]
    return lambda one: one.pattern in patterns


COHORTS: dict[str, Callable[[Any], bool]] = {
    "nobody": lambda one: False,
    "one subject": lambda one: one.usubjid == "TWO-A01",
    "one event": lambda one: one.usubjid == "TWO-A13",
    "no event": _is("SD", "PR"),
    "all events": _is("PD", "NEW", "DEATH"),
    "not evaluable": _is("NE"),
    "one arm": lambda one: one.arm == "A",
    "monotone": lambda one: (one.arm == "A" and _is("SD")(one)) or (one.arm == "B" and _is("PD")(one)),
}


@pytest.mark.parametrize("name", COHORTS)
def test_poor_cohorts_give_reasons(tmp_path: Path, name: str) -> None:
    """No traceback, no NaN in results or page; what cannot be estimated is null with its reason."""
    made = run(tmp_path, COHORTS[name])
    for one in made.results.results.values():
        assert one.value == one.value, one.id
        assert one.value is not None or one.reason, one.id
    assert not re.search(r">[^<]*\b(nan|inf|None|NaT)\b[^<]*<", made.page)
    model = made.results[
        "models.pfs.trt01a.a.hr" if name in {"all events", "monotone"} else "flow.analysed.n"
    ]
    if name == "monotone":
        assert (model.value, "monotone" in model.reason) == (None, True)
    elif name == "nobody":
        assert model.value == 0


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All 32 subjects, with a swimmer plot."""
    figures = [
        {"id": "pfs", "kind": "kaplan_meier", "title": "PFS", "endpoint": "PFS", "by": "arm"},
        {"id": "swimmer", "kind": "swimmer", "title": "Swimmer"},
        {"id": "subgroups", "kind": "forest", "title": "Subgroups", "analysis": "pfs"},
    ]
    return run(tmp_path_factory.mktemp("whole"), lambda one: True, report={"figures": figures})


def test_numbers_at_risk_agree_with_adtte(whole: Made) -> None:
    """Below each tick the subjects of the arm whose time is not shorter."""
    svg = (whole.folder / "figures" / "pfs.svg").read_text("utf-8")
    texts = [re.sub("<[^>]*>", "", text) for text in re.findall(r"<text[^>]*>.*?</text>", svg, re.DOTALL)]
    start = texts.index("At risk")
    times = whole.times("PFS")
    arm = whole.datasets["ADSL"].set_index("USUBJID")["TRT01A"].reindex(times.index)
    ticks = [int(text) for text in texts[: texts.index("Time (months)")]]
    assert ticks == list(range(6))
    for place, (label, value) in enumerate((("Trabectedin", "a"), ("Dacarbazine", "b"))):
        row = texts[start + 1 + place * (1 + len(ticks)) :][: 1 + len(ticks)]
        months = times.loc[arm == value, "AVAL"].astype("float64") / MONTH
        assert row == [label, *(str(int((months >= tick).sum())) for tick in ticks)]


def test_steps_agree_with_adtte(whole: Made) -> None:
    """At risk at the start, less the events and censorings before a landmark, are at risk at it."""
    times = whole.times("PFS")
    limit = 3 * MONTH
    gone = int((times["AVAL"] < limit).sum())
    found = whole.results
    assert found["survival.pfs.at.3.n_risk"].value == found["survival.pfs.n"].value - gone
    events = int((times["CNSR"] == 0).sum())
    reasons = [
        one.value
        for key, one in found.results.items()
        if key.startswith("survival.pfs.reason.") and key.endswith(".n")
    ]
    assert found["survival.pfs.events"].value == events
    assert sum(int(value or 0) for value in reasons) == len(times)


def test_the_swimmer_agrees_with_adtte(whole: Made) -> None:
    """Each bar says its progression and death where ADTTE has them, and ends with the follow-up of ADSL."""
    svg = (whole.folder / "figures" / "swimmer.svg").read_text("utf-8")
    said = {
        text.split(" · ")[0]: dict(
            part.rsplit(" ", 1) for part in text.replace(" months", "").split(" · ")[1:]
        )
        for text in re.findall(r"<title>(TWO-[^<]*)</title>", svg)
    }
    pfs, os = whole.times("PFS"), whole.times("OS")
    adsl = whole.datasets["ADSL"].set_index("USUBJID")
    assert set(said) == set(adsl.index)
    for name, marks in said.items():
        progressed = pfs.at[name, "EVNTDESC"] == "Progressive disease"
        assert progressed == ("progression" in marks)
        if progressed:
            assert marks["progression"] == f"{pfs.at[name, 'AVAL'] / MONTH:.1f}"
        assert (os.at[name, "CNSR"] == 0) == ("death" in marks)
        assert marks["follow-up"] == f"{os.at[name, 'AVAL'] / MONTH:.1f}"
        assert adsl.at[name, "FUPDUR"] == os.at[name, "AVAL"]


def test_the_page_has_the_new_tables(whole: Made) -> None:
    """Subgroups with their figure, the landmark, the sensitivity analyses and the comparison of the arms."""
    page = whole.page
    for words in (
        "Subgroup analyses",
        "Landmark analyses",
        "immortal time",
        "Progression-free survival: sensitivity analyses",
        "Main analysis",
        "Difference in ORR, percentage points",
        "Odds ratio of DCR",
        'id="figure-subgroups',
    ):
        assert words in page, words
