"""Subgroup and landmark analyses, sensitivity tables, and the comparison of two arms' responses.

The expected numbers are those of R 4.2.2 (survival 3.5-3) on the `veteran` data that come with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fhir_adapter.analysis.comparisons import miettinen_nurminen, newcombe, odds_ratio_exact
from fhir_adapter.analysis.selection import replay
from fhir_adapter.analysis.stage import analyse
from fhir_adapter.datasets import conform, empty
from fhir_adapter.report.figures import draw_figures
from fhir_adapter.results import Display, Results
from fhir_adapter.study import Study

DATA = Path(__file__).parents[1] / "data" / "survival"
CELLS = ["squamous", "smallcell", "adeno", "large"]
_ADAM = ("ADTR", "ADRS", "ADAE", "ADEX")


def _study(*, arms: bool = True, **more: Any) -> Study:
    tree: dict[str, Any] = {
        "study": {
            "id": "veteran",
            "title": "Veteran",
            "data_cutoff": "2022-06-30",
            "consent": {"policy": "waived", "reference": "public data"},
        },
        "cohort": {"candidates": {"all_patients": True}},
        "treatment": {
            "drugs": [{"id": "a", "label": "A", "concept": "drug-a"}],
            "arms": [
                {"id": "test", "label": "Test", "value": "2"},
                {"id": "standard", "label": "Standard", "value": "1"},
            ]
            if arms
            else [],
        },
        "subgroups": [
            {"id": "cell", "label": "Cell type", "variable": "CELL", "levels": CELLS},
            {"id": "arm", "label": "Arm", "variable": "TRT01A", "levels": ["test", "standard"]},
            {"id": "responder", "label": "Responders", "variable": "RSPFL", "levels": ["Y"]},
        ],
        "endpoints": [
            {"id": "OS", "label": "Overall survival", "kind": "OS", "unit": "days", "landmarks": [50]}
        ],
        "subgroup_analyses": [{"id": "os", "label": "By cell type", "endpoint": "OS", "subgroups": ["cell"]}],
        "landmark_analyses": [{"id": "os", "label": "By response", "endpoint": "OS", "landmark": 60}],
        "report": {"figures": [{"id": "forest", "kind": "forest", "title": "Subgroups", "analysis": "os"}]},
    }
    return Study.model_validate(tree | more)


def _datasets(data: pd.DataFrame, params: tuple[str, ...] = ("OS",)) -> dict[str, pd.DataFrame]:
    """ADSL and ADTTE of rows with arm, cell, time, event and rsp (day of the response, or missing)."""
    names = [f"S{place:03d}" for place in range(len(data))]
    adsl = pd.DataFrame(
        {
            "STUDYID": "X", "USUBJID": names, "ASEQ": 1, "SEX": "M", "ANALFL": "Y", "FASFL": "Y", "SAFFL": "Y",
            "TRT01A": data["arm"].to_numpy(), "CELL": data["cell"].to_numpy(), "FUPDUR": data["time"].to_numpy(),
            "RSPFL": ["Y" if known else None for known in data["rsp"].notna()],
            "BOR": ["PR" if known else "SD" for known in data["rsp"].notna()],
        }
    )  # fmt: skip
    parts = [
        pd.DataFrame(
            {
                "STUDYID": "X", "USUBJID": names, "ASEQ": place, "PARAMCD": param, "PARAM": param,
                "AVAL": data["time"].to_numpy(), "CNSR": (1 - data["event"]).to_numpy(),
                "RSPDY": data["rsp"].to_numpy(),
                "EVNTDESC": ["Death" if event else None for event in data["event"]],
                "CNSDTDSC": [None if event else "Alive" for event in data["event"]],
            }
        )
        for place, param in enumerate(params, start=1)
    ]  # fmt: skip
    frames = {name: empty(name) for name in _ADAM}
    adtte = conform("ADTTE", pd.concat(parts, ignore_index=True))
    return frames | {"ADSL": conform("ADSL", adsl), "ADTTE": adtte}


@pytest.fixture(scope="module")
def veteran() -> pd.DataFrame:
    """Veteran; every third row responded on day 20, every third on day 100, if it lived until then."""
    data = pd.read_csv(DATA / "veteran.csv")
    row = pd.Series(range(1, len(data) + 1))
    day = row.map(lambda number: {0: 20.0, 1: 100.0}.get(number % 3, float("nan")))
    return pd.DataFrame(
        {
            "arm": data["trt"].map({1: "standard", 2: "test"}),
            "cell": data["celltype"],
            "time": data["time"],
            "event": data["status"],
            "rsp": day.where(day <= data["time"]),
        }
    )


def _values(results: Results, stem: str, *names: str) -> list[Any]:
    return [results[f"{stem}.{name}"].value for name in names]


def _display(results: Results, id_: str) -> Display:
    return next(item for item in results.displays if item.id == id_)


@pytest.mark.parametrize(
    ("stem", "standard", "test", "ratio"),
    [
        ("all", (69, 64), (68, 64), (1.01790090394, 0.714375526107, 1.45038878345, 0.921766194685)),
        (
            "cell.squamous",
            (15, 13),
            (20, 18),
            (0.544381308023, 0.250829466016, 1.18148403069, 0.124015709537),
        ),
        (
            "cell.smallcell",
            (30, 28),
            (18, 17),
            (1.65206363082, 0.862963362474, 3.16272319192, 0.129734262416),
        ),
        ("cell.adeno", (9, 9), (18, 17), (1.22955334769, 0.527027203484, 2.86854535176, 0.632575592606)),
        ("cell.large", (15, 14), (12, 12), (1.53562375807, 0.691706919767, 3.40916110417, 0.291823101737)),
    ],
)
def test_two_arms(
    veteran: pd.DataFrame,
    stem: str,
    standard: tuple[int, int],
    test: tuple[int, int],
    ratio: tuple[float, ...],
) -> None:
    """Subjects, events and the hazard ratio of each level are those of R's `coxph`."""
    results = analyse(_datasets(veteran), _study(), "2022-06-30")
    at = f"subgroups.os.{stem}"
    assert tuple(_values(results, at, "standard.n", "standard.events")) == standard
    assert tuple(_values(results, at, "test.n", "test.events")) == test
    assert _values(results, at, "hr", "lower", "upper", "p") == pytest.approx(ratio, rel=1e-8)


def test_the_interaction(veteran: pd.DataFrame) -> None:
    """The likelihood ratio test between the models with and without the interaction, as R's `anova`."""
    results = analyse(_datasets(veteran), _study(), "2022-06-30")
    found = _values(results, "subgroups.os.cell.interaction", "statistic", "df", "p")
    assert found == pytest.approx([8.21622904066, 3, 0.0417480175158], rel=1e-8)
    assert "interaction" in results["subgroups.os.cell.interaction.p"].method


def test_the_arms_may_be_turned(veteran: pd.DataFrame) -> None:
    """The first named arm is compared with the second."""
    item = {"id": "os", "label": "L", "endpoint": "OS", "subgroups": ["cell"], "arms": ["standard", "test"]}
    results = analyse(_datasets(veteran), _study(subgroup_analyses=[item]), "2022-06-30")
    assert results["subgroups.os.all.hr"].value == pytest.approx(1 / 1.01790090394, rel=1e-8)


def test_one_arm(veteran: pd.DataFrame) -> None:
    """Median and response rate of each level, and the log-rank test (25.40370 on 3 df)."""
    results = analyse(_datasets(veteran), _study(arms=False), "2022-06-30")
    assert results["subgroups.os.all.median"].value == 80
    found = _values(results, "subgroups.os.cell.logrank", "statistic", "df", "p")
    assert found == pytest.approx([25.40370, 3, 1.27125e-05], rel=1e-5)
    own = veteran[veteran["cell"] == "adeno"]
    responders = int(own["rsp"].notna().sum())
    assert _values(results, "subgroups.os.cell.adeno", "n", "orr.n") == [len(own), responders]
    assert results["subgroups.os.cell.adeno.orr.pct"].value == pytest.approx(100 * responders / len(own))


@pytest.mark.parametrize("arms", [True, False])
def test_the_forest_plot(veteran: pd.DataFrame, arms: bool) -> None:
    """Every row of the table is in the figure; it stands with the subgroup analyses."""
    study, datasets = _study(arms=arms), _datasets(veteran)
    results = analyse(datasets, study, "2022-06-30")
    (drawn,) = draw_figures(study, results, datasets, [], lambda text: text)
    assert drawn[0] == "subgroups"
    for words in ("All subjects", "Cell type", *CELLS):
        assert words in drawn[1].file
    assert ("1.54 (0.69–3.41)" if arms else "ORR, % (95% CI)") in drawn[1].file
    assert "nan" not in drawn[1].file.lower().replace("nance", "")


def test_landmark(veteran: pd.DataFrame) -> None:
    """Who lived beyond day 60, by what was reached until then: R's curves and `survdiff` from day 60 on."""
    results = analyse(_datasets(veteran), _study(), "2022-06-30")
    parts = ("n", "events", "median", "lower", "upper")
    assert _values(results, "landmark.os.responders", *parts) == [21, 19, 96, 45, 171]
    assert _values(results, "landmark.os.others", *parts) == [52, 46, 84, 57, 126]
    found = _values(results, "landmark.os.logrank", "statistic", "p")
    assert found == pytest.approx([0.0628428181714, 0.802057891664], rel=1e-8)
    assert _values(results, "landmark.os.excluded", "events.n", "censored.n") == [63, 1]
    assert "immortal time" in " ".join(_display(results, "landmark_os").notes)


def test_selectors_reach_who_was_counted(veteran: pd.DataFrame) -> None:
    """Replaying any count of subjects gives the number."""
    study, datasets = _study(), _datasets(veteran)
    results = analyse(datasets, study, "2022-06-30")
    own = [one for key, one in results.results.items() if key.startswith(("subgroups.", "landmark."))]
    counted = [one for one in own if one.rule == "n_subjects"]
    assert len(counted) > 15
    for one in counted:
        assert one.value == len(replay(one, datasets, study)), one.id


def test_survival_by_response_is_warned_of(veteran: pd.DataFrame) -> None:
    """The note stands wherever curves are compared by what happened during follow-up, and nowhere else."""
    endpoint = {"id": "OS", "label": "OS", "kind": "OS", "unit": "days", "by": ["responder", "cell"]}
    results = analyse(_datasets(veteran), _study(endpoints=[endpoint]), "2022-06-30")
    notes = [note for note in _display(results, "survival_os").notes if "immortal time" in note]
    assert [note.partition(":")[0] for note in notes] == ["Responders"]


def test_sensitivity_analyses_stand_beside_the_main_one(veteran: pd.DataFrame) -> None:
    """One table with the main analysis first; a variant of another unit has a table of its own."""
    variants = [
        {
            "id": "same",
            "label": "Counting the first day",
            "endpoint": "OS",
            "changes": {"count_first_day": True},
        },
        {"id": "months", "label": "In months", "endpoint": "OS", "changes": {"unit": "months"}},
    ]
    study = _study(sensitivity=variants)
    results = analyse(_datasets(veteran, ("OS", "OS_SAME", "OS_MONTHS")), study, "2022-06-30")
    table = _display(results, "sensitivity_os")
    assert [row.label for row in table.rows if not row.cells] == ["Main analysis", "Counting the first day"]
    stems = [row.cells[0].results[0] for row in table.rows if row.cells]
    assert stems == ["survival.os.n", "sensitivity.same.n"]
    assert _display(results, "sensitivity_months").columns[2] == "Median, months (95% CI)"


def test_differences_and_odds_ratios(veteran: pd.DataFrame) -> None:
    """The first level against the second, by the methods that the table names; percentage points."""
    tables = [
        {"id": "one", "title": "T", "subgroups": ["arm", "cell"], "difference": "newcombe"},
        {
            "id": "two", "title": "T", "subgroups": ["arm"], "difference": "miettinen_nurminen",
            "odds_ratio": "odds_ratio_exact", "population": "safety",
        },
    ]  # fmt: skip
    results = analyse(_datasets(veteran), _study(response_tables=tables), "2022-06-30")
    counts = []
    for arm in ("test", "standard"):
        own = veteran[veteran["arm"] == arm]
        counts += [int(own["rsp"].notna().sum()), len(own)]
    names = ("estimate", "lower", "upper")
    for stem, interval, scale in (
        ("response.arm.orr_difference", newcombe(*counts), 100),
        ("response.safety.arm.orr_difference", miettinen_nurminen(*counts), 100),
        ("response.safety.arm.orr_odds_ratio", odds_ratio_exact(*counts), 1),
    ):
        expected = [scale * float(getattr(interval, name) or 0) for name in names]
        assert _values(results, stem, *names) == pytest.approx(expected)
    assert not any(key.startswith("response.cell.orr_difference") for key in results.results)
    label = next(row.label for row in _display(results, "response_one").rows if "Difference" in row.label)
    assert "test against standard" in label
    assert "Newcombe" in label


POOR = {
    "nobody": "arm cell time event rsp",
    "one subject": "arm cell time event rsp\ntest adeno 5 1 .",
    "no event": "arm cell time event rsp\ntest adeno 5 0 .\nstandard large 6 0 3\ntest large 7 0 .",
    "all events": "arm cell time event rsp\ntest adeno 5 1 .\nstandard adeno 6 1 2\ntest large 65 1 .",
    "one arm": "arm cell time event rsp\ntest adeno 5 1 .\ntest large 70 1 2\ntest adeno 80 0 .",
    "one level": "arm cell time event rsp\ntest adeno 5 1 .\nstandard adeno 70 1 2\ntest adeno 80 0 .",
    "monotone": (
        "arm cell time event rsp\ntest adeno 5 1 .\ntest adeno 6 1 .\nstandard adeno 70 0 2\n"
        "standard large 80 1 .\ntest large 7 1 5"
    ),
    "all on day 0": "arm cell time event rsp\ntest adeno 0 1 .\nstandard large 0 0 0\ntest large 0 1 .",
}


@pytest.mark.parametrize("arms", [True, False])
@pytest.mark.parametrize("name", POOR)
def test_poor_cohorts_give_reasons(name: str, arms: bool) -> None:
    """No traceback and no NaN: what cannot be estimated is null and says why."""
    header, *lines = POOR[name].splitlines()
    table = pd.DataFrame([line.split() for line in lines], columns=header.split())
    for column in ("time", "event", "rsp"):
        table[column] = pd.to_numeric(table[column].replace(".", None)).astype("float64")
    datasets = _datasets(table.astype({"event": "int64"}))
    figures = [{"id": "forest", "kind": "forest", "title": "Subgroups", "analysis": "os"}]
    models = [
        {
            "id": "m",
            "label": "M",
            "endpoint": "OS",
            "covariates": [{"variable": "CELL", "reference": "adeno"}],
        }
    ]
    study = _study(
        arms=arms,
        models=models,
        response_tables=[{"id": "r", "title": "R", "subgroups": ["arm"], "difference": "newcombe",
                          "odds_ratio": "odds_ratio_wald"}],
        report={"figures": figures},
    )  # fmt: skip
    results = analyse(datasets, study, "2022-06-30")
    assert b"NaN" not in results.encode()
    for one in results.results.values():
        assert one.value is not None or one.reason, one.id
    draw_figures(study, results, datasets, [], lambda text: text)
    if name in {"nobody", "no event", "one level"} and arms:
        assert results["subgroups.os.cell.interaction.p"].value is None
    if name in {"nobody", "no event", "one arm"} and arms:
        assert results["subgroups.os.all.hr"].value is None
