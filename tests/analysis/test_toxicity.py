"""Tables of adverse events on hand-written events: worst grade, classes, consequences, onset, rates, list."""

from __future__ import annotations

import random
from typing import Any

import pandas as pd
import pytest

from fhir_adapter.analysis.comparisons import poisson_exact
from fhir_adapter.analysis.selection import Analysis, replay
from fhir_adapter.analysis.toxicity import toxicity
from fhir_adapter.datasets import conform
from fhir_adapter.derive.adae import adverse_events
from fhir_adapter.derive.numbering import finish
from fhir_adapter.report.formatting import format_cell, plain
from fhir_adapter.results import Results
from fhir_adapter.study import Study

#: Everyone starts on 2021-01-01; the last day at risk is that many days later.
AT_RISK = {"s1": 100, "s2": 200, "s3": 365, "s4": 400, "s5": 396}
#            who  term      class  grade day  related    serious actions                           more
EVENTS: list[tuple[Any, ...]] = [
    ("s1", "Rash", "Skin", 1, 10, "POSSIBLE", "N", "DOSE NOT CHANGED"),
    ("s1", "Rash", "Skin", 3, 30, "RELATED", "Y", "DRUG INTERRUPTED;DOSE REDUCED"),
    ("s1", "Itching", "Skin", 2, 20, "RELATED", "N", None),
    ("s2", "Rash", "Skin", 2, 50, "PROBABLE", "N", "DRUG WITHDRAWN"),
    ("s2", "Nausea", "Gut", None, 5, "POSSIBLE", None, "UNKNOWN"),
    ("s3", "Nausea", "Gut", 4, 80, "NOT RELATED", "N", None),
    ("s3", "Odd", None, 3, 40, "POSSIBLE", "N", "DOSE NOT CHANGED"),
    ("s4", "Stroke", "Nerves", 5, 60, None, "Y", None),
    ("s4", "Rash", "Skin", 1, 500, "RELATED", "N", None),  # after the window
]


def study(**settings: Any) -> Study:
    """A study with two arms."""
    return Study.model_validate(
        {
            "study": {
                "id": "x",
                "title": "X",
                "data_cutoff": "2023-01-01",
                "consent": {"policy": "required"},
            },
            "cohort": {"candidates": {"all_patients": True}},
            "treatment": {
                "drugs": [{"id": "a", "label": "A", "concept": "a"}],
                "arms": [
                    {"id": "one", "label": "One", "value": "1"},
                    {"id": "two", "label": "Two", "value": "2"},
                ],
            },
            "toxicity": settings,
        }
    )


def frames(
    events: list[tuple[Any, ...]], definition: Study, who: dict[str, int] | None = None
) -> dict[str, Any]:
    """ADSL and ADAE of the events."""
    at_risk = AT_RISK if who is None else who
    start = pd.Timestamp("2021-01-01")
    index = pd.Index(list(at_risk), name="USUBJID", dtype="object")
    risk = pd.to_timedelta(pd.Series(list(at_risk.values()), index=index, dtype="float64"), unit="D")
    subjects = pd.DataFrame({"STUDYID": "x", "TRTSDT": start, "RISKEDT": start + risk}, index=index)
    subjects["TRTEDT"] = subjects["RISKEDT"] - pd.Timedelta(days=definition.toxicity.window_days)
    subjects["BIRTH"] = pd.Timestamp("1960-01-01")
    subjects["DTHDT"] = pd.NaT
    subjects["DTHDT"] = pd.to_datetime(subjects["DTHDT"])
    rows = [
        {
            "USUBJID": usubjid, "AESEQ": number, "AETERM": term, "AEDECOD": term, "AEBODSYS": organ,
            "AETOXGR": grade, "AEREL": related, "AESER": serious, "AEACNALL": actions,
            "AESDTH": "Y" if grade == 5 else None,
            "AESTDTC": None if day is None else str((start + pd.Timedelta(days=day)).date()),
        }
        for number, (usubjid, term, organ, grade, day, related, serious, actions) in enumerate(events, start=1)
    ]  # fmt: skip
    adae, _ = adverse_events(conform("AE", rows), definition, subjects)
    adsl = subjects.reset_index()[["STUDYID", "USUBJID", "TRTSDT", "TRTEDT", "RISKEDT"]]
    adsl = adsl.assign(ANALFL="Y", SAFFL="Y", ASEQ=1, TRT01A=["one", "two", "one", "two", "one"][: len(adsl)])
    return {"ADSL": conform("ADSL", adsl), "ADAE": finish("ADAE", adae), "ADEX": conform("ADEX", [])}


def analysed(
    events: list[tuple[Any, ...]], who: dict[str, int] | None = None, **settings: Any
) -> tuple[Results, dict[str, Any], Study]:
    """The results of the tables of adverse events alone."""
    definition = study(**settings)
    datasets = frames(events, definition, who)
    results = Results(study="x", data_cutoff="2023-01-01")
    toxicity(Analysis(definition, datasets, results))
    return results, datasets, definition


@pytest.fixture(scope="module")
def all_causes() -> tuple[Results, dict[str, Any], Study]:
    """All emergent events of the five subjects."""
    return analysed(EVENTS, related_only=False, by_arm=True)


@pytest.mark.parametrize(
    ("id_", "expected"),
    [
        ("emergent.n", 4),
        ("related.n", 3),
        ("any_g1.n", 0),
        ("any_g2.n", 1),
        ("any_g3.n", 1),
        ("any_g4.n", 1),
        ("any_g5.n", 1),
        ("related.any_g3.n", 2),
        ("no_grade.n", 0),
        ("unknown_grade.n", 1),
        ("any_ge3.n", 3),
        ("serious.n", 2),
        ("related.serious.n", 1),
        ("reduced.n", 1),
        ("interrupted.n", 1),
        ("stopped.n", 1),
        ("death.n", 1),
        ("related.death.n", 0),
        ("action_unknown.n", 4),
        ("unknown_causality.n", 1),
        ("term.rash.any.n", 2),
        ("term.rash.any.pct", 40.0),
        ("term.rash.grade_2.n", 1),
        ("term.rash.grade_3.n", 1),
        ("term.nausea.unknown_grade.n", 1),
        ("term.nausea.grade_4.n", 1),
        ("term.rash.serious.n", 1),
        ("term.rash.stopped.n", 1),
        ("term.nausea.action_unknown.n", 2),
        ("term.nausea.related.n", 1),
        ("class.skin.any.n", 2),
        ("class.skin.grade_3.n", 1),
        ("class.gut.any.n", 2),
        ("class.not_stated.grade_3.n", 1),
        ("one.emergent.n", 2),
        ("one.emergent.pct", 200 / 3),
        ("two.term.stroke.g5.n", 1),
        ("onset.any.ge1.n", 4),
        ("onset.any.ge1.median", 25.0),
        ("onset.any.ge3.median", 40.0),
        ("onset.term.rash.ge1.min", 10.0),
        ("onset.term.rash.ge1.max", 50.0),
        ("rate.any.ge1.years", (10 + 5 + 40 + 60 + 396) / 365.25),
        ("rate.any.ge1.rate", 100 * 4 / ((10 + 5 + 40 + 60 + 396) / 365.25)),
        ("rate.term.rash.ge3.years", (30 + 200 + 365 + 400 + 396) / 365.25),
        ("listing.n", 4),
    ],
)
def test_each_number(all_causes: tuple[Results, dict[str, Any], Study], id_: str, expected: float) -> None:
    """Counted by hand from the events above."""
    assert all_causes[0][f"toxicity.{id_}"].value == pytest.approx(expected)


def test_related_events_only() -> None:
    """The tables by term count related events, the overview both kinds; absent causality is not related."""
    results = analysed(EVENTS)[0]
    values = {id_: results[f"toxicity.{id_}"].value for id_ in ("any_g3.n", "emergent.any_g5.n", "listing.n")}
    assert values == {"any_g3.n": 2, "emergent.any_g5.n": 1, "listing.n": 4}
    assert "toxicity.term.stroke.any.n" not in results.results
    assert results["toxicity.term.nausea.any.n"].value == 1


def test_every_count_is_reached_by_its_selector(all_causes: tuple[Results, dict[str, Any], Study]) -> None:
    """Replaying the selector of a number gives as many subjects as were counted, first events too."""
    results, datasets, definition = all_causes
    for result in results.results.values():
        if result.rule in {"n_subjects", "n_first_events"}:
            assert result.value == replay(result, datasets, definition)["USUBJID"].nunique(), result.id


def test_the_list() -> None:
    """Severe events by subject and day; what is not recorded is said, and a cut list says so."""
    results = analysed(EVENTS, listing_rows=2)[0]
    table = next(item for item in results.displays if item.id == "toxicity_listing")
    assert [
        [row.label, *(plain(format_cell(cell, results)) for cell in row.cells)] for row in table.rows
    ] == [
        [
            "s1",
            "Rash",
            "3",
            "31",
            "not recorded",
            "not recorded",
            "yes",
            "yes",
            "drug interrupted, dose reduced",
        ],
        ["s3", "Odd", "3", "41", "not recorded", "not recorded", "yes", "no", "dose not changed"],
    ]
    assert "Events without a grade, not in this list: 1." in table.notes
    assert "The first 2 of 4 events; all are in the dataset ADAE." in table.notes


def test_an_event_without_a_day() -> None:
    """It counts as emergent, has no onset, and leaves its subject out of the rate, visibly."""
    events = [*EVENTS, ("s5", "Rash", "Skin", 2, None, "RELATED", "N", None)]
    results = analysed(events, related_only=False)[0]
    assert results["toxicity.term.rash.any.n"].value == 3
    assert (
        results["toxicity.onset.term.rash.ge1.n"].value,
        results["toxicity.onset.term.rash.ge1.undated.n"].value,
    ) == (2, 1)
    assert results["toxicity.rate.term.rash.ge1.years"].value == pytest.approx((10 + 50 + 365 + 400) / 365.25)
    notes = next(item.notes for item in results.displays if item.id == "toxicity_onset")
    assert any("not known, left out: 1" in note for note in notes)


def test_first_day_counts() -> None:
    """With `count_first_day` an event on the day of the first dose is on day 1."""
    events = [("s1", "Rash", "Skin", 1, 0, "RELATED", "N", None)]
    for setting in (False, True):
        results = analysed(events, {"s1": 9}, count_first_day=setting)[0]
        assert results["toxicity.onset.any.ge1.median"].value == int(setting)
        assert results["toxicity.rate.any.ge1.years"].value == pytest.approx(int(setting) / 365.25)
        assert (results["toxicity.rate.any.ge1.rate"].value is None) == (not setting)


@pytest.mark.parametrize(
    ("events", "who"),
    [
        ([], {}),
        ([], {"s1": 10}),
        (EVENTS[:1], {"s1": 100}),
        (EVENTS[4:5], {"s2": 200}),
        ([], {"s1": float("nan")}),
    ],
    ids=["nobody", "no event", "one event", "one without a grade", "never treated"],
)
def test_little_is_never_not_a_number(events: list[tuple[Any, ...]], who: dict[str, Any]) -> None:
    """Nobody, one subject, no event: zero, or not estimable with the reason."""
    results = analysed(events, who, by_arm=True)[0]
    for result in results.results.values():
        assert result.value == result.value, result.id
        assert result.value is not None or result.reason, result.id
    for display in results.displays:
        for row in display.rows:
            for cell in row.cells:
                assert "nan" not in plain(format_cell(cell, results)).lower()
    assert all(display.rows or "No such event." in display.notes for display in results.displays)


@pytest.mark.parametrize("seed", range(6))
def test_properties(seed: int) -> None:
    """Order changes nothing; once per term; grades add up; a class has at least its terms', at most their sum."""
    chance = random.Random(seed)
    events: list[tuple[Any, ...]] = [
        (
            chance.choice(list(AT_RISK)), term, {"A": "One", "B": "One", "C": "Two"}.get(term),
            chance.choice([None, 1, 2, 3, 4, 5]), chance.choice([None, 1, 20, 90, 300]),
            chance.choice(["RELATED", "UNLIKELY", None]), chance.choice(["Y", "N", None]),
            chance.choice([None, "UNKNOWN", "DOSE REDUCED", "DRUG INTERRUPTED;DRUG WITHDRAWN"]),
        )
        for term in chance.choices("ABCD", k=25)
    ]  # fmt: skip
    results, datasets, _ = analysed(events, related_only=False)
    shuffled = events.copy()
    chance.shuffle(shuffled)
    assert analysed(shuffled, related_only=False)[0].encode() == results.encode()
    adae = datasets["ADAE"]
    once = adae[adae["AOCCPIFL"].eq("Y")]
    assert not once.duplicated(["USUBJID", "AEDECOD"]).any()

    def value(id_: str) -> int:
        found = results.results.get(f"toxicity.{id_}")
        return 0 if found is None else int(str(found.value))

    stems = [id_.removesuffix(".grade_any.n") for id_ in results.results if id_.endswith(".grade_any.n")]
    for stem in (item.removeprefix("toxicity.") for item in stems):
        graded = sum(value(f"{stem}.grade_{grade}.n") for grade in range(1, 6))
        assert graded + value(f"{stem}.unknown_grade.n") == value(f"{stem}.grade_any.n"), stem
        parts = sum(value(f"{stem}.{part}.n") for part in ("g1_2", "g3_4", "g5", "unknown_grade"))
        assert parts == value(f"{stem}.any.n") or f"toxicity.{stem}.g5.n" not in results.results, stem
    assert sum(value(f"any_g{g}.n") for g in range(1, 6)) + value("no_grade.n") == value("emergent.n")
    terms = [value(f"term.{term}.any.n") for term in "ab"]
    assert max(terms) <= value("class.one.any.n") <= sum(terms)


def test_poisson_interval() -> None:
    """Garwood's limits: 10 events, 4.795 to 18.390; none, 0 to 3.689; no time has no rate."""
    ten = poisson_exact(10, 1.0)
    assert (ten.lower, ten.upper) == (pytest.approx(4.795389), pytest.approx(18.390356))
    none = poisson_exact(0, 2.0)
    assert (none.estimate, none.lower, none.upper) == (0, 0, pytest.approx(3.688879 / 2))
    assert (poisson_exact(1, 0.0).estimate, poisson_exact(1, 0.0).reason) == (None, "no time at risk")
    for wrong in ((-1, 1.0), (1.5, 1.0), (1, -1.0), (1, float("nan"))):
        with pytest.raises(ValueError, match="a rate needs"):
            poisson_exact(*wrong)  # type: ignore[arg-type]
