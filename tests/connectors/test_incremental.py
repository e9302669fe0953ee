"""One thing changes on the server: the next run brings little, and gives the report that a fresh run gives.

The SDTM datasets of the incremental run are those of a run with an empty landing on the changed server, byte for
byte; everything later is computed from them alone, and the numbers differ from those before as the change says.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.pipeline import Settings, new_run

SIX = Path(__file__).parents[1] / "data" / "six"
LATER = dt.timedelta(days=1)
LONG_AGO = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
STAGES = ("map", "derive", "analyse")

Server = Any  # the classes stand in conftest.py, which is not importable by name
Operator = Any


def numbers(run: Path) -> dict[str, Any]:
    """Id → value of every result of a run."""
    found = json.loads((run / "results.json").read_bytes())["results"]
    return {id_: item["value"] for id_, item in found.items()}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The numbers of the six patients as they are."""
    folder = tmp_path_factory.mktemp("before")
    (folder / "site.yaml").write_text(
        json.dumps(
            {"id": "b", "source": {"kind": "files", "path": str(SIX)}, "state_dir": str(folder / "state")}
        )
    )
    run = new_run(SIX / "six.yaml", folder / "site.yaml", folder / "runs", Settings(quiet=True))
    with run.log, run.locked():
        for stage in ("pull", *STAGES):
            run.stage(stage)
    return numbers(run.folder.path)


@pytest.fixture
def stage(operator: Operator) -> Callable[..., None]:
    """Runs stages of a run through the command line."""

    def go(*names: str, run: Path | None = None) -> None:
        for name in names:
            status, said = operator._call(name, run or operator.run, "--quiet")
            assert status == 0, said

    return go


@pytest.fixture
def anew(operator: Operator, fresh: Path, tmp_path: Path) -> Callable[..., Operator]:
    """Another operator, with an empty landing and a fresh run."""

    def make(name: str = "anew") -> Operator:
        folder = tmp_path / name
        shutil.copytree(fresh, folder / "runs" / "six" / "1")
        return type(operator)(folder, folder / "runs" / "six" / "1", operator._call)

    return make


def another(server: Server, type_: str, id_: str, **changes: Any) -> dict[str, Any]:
    """The content of a resource with changes, to be written again."""
    found = json.loads(json.dumps(server.resources[type_, id_]))
    return {name: value for name, value in (found | changes).items() if name not in {"resourceType", "id"}}


def change(server: Server, type_: str, id_: str, **changes: Any) -> None:
    """Writes a resource with some elements changed."""
    server.put(type_, id_, **another(server, type_, id_, **changes))


def clone(server: Server, old: str, new: str, *types: str, **words: str) -> None:
    """Writes the resources of a patient again, under the name of another."""
    for (type_, _), item in list(server.resources.items()):
        text = json.dumps(item)
        if old not in text or (types and type_ not in types):
            continue
        for word, other in {old: new, **words}.items():
            text = text.replace(word, other)
        content = json.loads(text)
        server.put(type_, content.pop("id"), **{k: v for k, v in content.items() if k != "resourceType"})


def joins_late(server: Server) -> None:
    """A patient whose data are years old is enrolled today."""
    now, server.now = server.now, LONG_AGO
    clone(server, "six-sd", "six-late", **{"SIX-003": "SIX-007"})
    server.now = now
    change(server, "ResearchSubject", "six-late-subject")


def measured_anew(server: Server) -> None:
    """The stable patient's lesion turns out to be 98 mm at week 27."""
    text = json.dumps(another(server, "Observation", "six-sd-week27-t01"))
    assert '"value": 78' in text
    server.put("Observation", "six-sd-week27-t01", **json.loads(text.replace('"value": 78', '"value": 98')))


def late_event(server: Server) -> None:
    """The stable patient had anaemia as well."""
    clone(server, "six-pd-anaemia", "six-sd-anaemia", "AdverseEvent")
    change(server, "AdverseEvent", "six-sd-anaemia", subject={"reference": "Patient/six-sd"})


def date_corrected(server: Server) -> None:
    """A patient died a month later than was written."""
    change(server, "Patient", "six-ne", deceasedDateTime="2021-09-14")


def deleted(server: Server) -> None:
    """An adverse event is gone."""
    server.delete("AdverseEvent", "six-ne-fatigue")


def entered_in_error(server: Server) -> None:
    """A grade should never have been written."""
    change(server, "Observation", "six-sd-grade", status="entered-in-error")


def withdraws(server: Server, patient: str = "six-pd") -> None:
    """A patient withdraws consent."""
    server.put(
        "Consent", f"{patient}-consent", status="inactive", dateTime="2021-05-01", provision={"type": "permit"},
        patient={"reference": f"Patient/{patient}"},
        scope={"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
    )  # fmt: skip


def merged(server: Server) -> None:
    """Two subjects of the study turn out to be one person."""
    link = [{"other": {"reference": "Patient/six-ne"}, "type": "replaced-by"}]
    change(server, "Patient", "six-ex", active=False, link=link)


def merged_with_a_stranger(server: Server) -> None:
    """A subject turns out to have another record, which is in no study and has an adverse event of years ago."""
    now, server.now = server.now, LONG_AGO
    server.put("Patient", "double")
    clone(server, "six-pd-anaemia", "double-anaemia", "AdverseEvent")
    change(server, "AdverseEvent", "double-anaemia", subject={"reference": "Patient/double"})
    server.now = now
    change(server, "Patient", "six-sd", link=[{"other": {"reference": "Patient/double"}, "type": "replaces"}])


def moved(server: Server) -> None:
    """An adverse event was written to the wrong patient."""
    change(server, "AdverseEvent", "six-pd-anaemia", subject={"reference": "Patient/six-ne"})


def enrolled_under_another_record(server: Server) -> None:
    """An enrolment is handed over to another subject's record; nothing links the two."""
    change(server, "ResearchSubject", "six-ex-subject", individual={"reference": "Patient/six-ne"})


def taken_over_by_another_record(server: Server) -> None:
    """All that is a subject's is handed over to another record, theirs is deleted, and nothing links the two."""
    for (type_, id_), item in list(server.resources.items()):
        if "Patient/six-ex" in json.dumps(item):
            text = json.dumps(another(server, type_, id_)).replace("Patient/six-ex", "Patient/six-ne")
            server.put(type_, id_, **json.loads(text))
    server.delete("Patient", "six-ex")


#: change → what it does to the numbers: id → (before, after)
CHANGES: dict[Callable[[Server], None], dict[str, tuple[Any, Any]]] = {
    joins_late: {"flow.analysed.n": (5, 6), "response.total.sd.n": (1, 2)},
    measured_anew: {"survival.pfs.events": (3, 4)},
    late_event: {"toxicity.any_ge3.n": (2, 3), "toxicity.term.anemia.any.n": (1, 2)},
    date_corrected: {"survival.os.at.3.rate": (80, 100)},
    deleted: {"toxicity.term.fatigue.any.n": (2, 1)},
    entered_in_error: {"baseline.grade.1.n": (1, None)},
    withdraws: {"flow.excluded.consent.n": (None, 1), "flow.treated.n": (6, 5), "flow.analysed.n": (5, 4)},
    merged: {"flow.candidates.n": (6, 5), "flow.excluded.one_cycle.n": (1, 0)},
    merged_with_a_stranger: {"toxicity.term.anemia.any.n": (1, 2)},
    enrolled_under_another_record: {"flow.candidates.n": (6, 5), "flow.excluded.one_cycle.n": (1, 0)},
    taken_over_by_another_record: {"flow.candidates.n": (6, 5), "flow.excluded.one_cycle.n": (1, 0)},
    moved: {"toxicity.related.n": (5, 4)},
}


@pytest.mark.parametrize("edit", CHANGES, ids=lambda edit: edit.__name__)
def test_a_change_on_the_server_changes_the_next_report(
    edit: Callable[[Server], None], server: Server, operator: Operator, anew: Callable[..., Operator],
    stage: Callable[..., None], before: dict[str, Any],
) -> None:  # fmt: skip
    """What a fresh run would give, by fewer than 60 requests and 20 of more than 150 resources."""
    server.now += LATER  # what was just written would come again, for the overlap of the marks
    assert operator.pull(server.base) == (0, "")
    server.now += LATER
    edit(server)
    server.requests.clear()
    assert operator.pull(server.base) == (0, "")
    asked = len(server.requests)
    came = sum(operator.manifest["pull"]["received"].values())
    stage(*STAGES)
    after = numbers(operator.run)
    wanted = CHANGES[edit]
    assert {id_: (before.get(id_), after.get(id_)) for id_ in wanted} == {
        id_: (pytest.approx(old) if old else old, pytest.approx(new) if new else new)
        for id_, (old, new) in wanted.items()
    }
    other = anew()
    assert other.pull(server.base) == (0, "")
    stage("map", run=other.run)
    theirs = {path.name: path.read_bytes() for path in (other.run / "datasets").glob("*.parquet")}
    assert len(theirs) == 12
    assert [name for name in theirs if (operator.run / "datasets" / name).read_bytes() != theirs[name]] == []
    if edit is not joins_late:  # of whom everything has to come
        assert came < 20 < 150 < sum(other.manifest["pull"]["received"].values())
    assert asked < 60


@pytest.mark.parametrize(
    ("edit", "reasons"),
    [
        (enrolled_under_another_record, {"not-needed not-a-candidate", "not-needed superseded"}),
        (taken_over_by_another_record, {"not-needed deleted", "not-needed superseded"}),
    ],
)
def test_a_subject_who_is_enrolled_no_longer(
    edit: Callable[[Server], None], reasons: set[str], server: Server, operator: Operator, stage: Callable[..., None]
) -> None:  # fmt: skip
    """Records that are merged without a link: a finding says so once, and whatever was theirs has its reason."""
    assert operator.pull(server.base) == (0, "")
    server.now += LATER
    edit(server)
    for told in (["no-longer-enrolled"], []):
        assert operator.pull(server.base) == (0, "")
        assert [item["code"] for item in operator.manifest["pull"]["findings"]] == told
        assert (("Patient", "six-ex") in operator.landed()) == (("Patient", "six-ex") in server.resources)
    stage("map")
    theirs = {key: said for key, said in operator.dispositions().items() if "/six-ex" in key}
    assert set(theirs.values()) == reasons
    assert len(theirs) == 13
