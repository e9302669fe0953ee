"""Incremental runs on a real HAPI FHIR server: a hundredth changes, a few resources go, a subject withdraws."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.cli import main
from fhir_adapter.connectors.rest import searches

from .conftest import SIX, results_of, six_patients, write_site

pytestmark = pytest.mark.hapi

Hapi = Any  # the class stands in tests/conftest.py, which is not importable by name
COPIES = 2
TAG = "https://fhir-adapter.org/tags|output"


def cohort() -> list[dict[str, Any]]:
    """The six patients twice, under names of their own, in a study of their own."""
    found: dict[str, dict[str, Any]] = {}
    for number in range(COPIES):
        for item in six_patients():
            text = (
                json.dumps(item).replace("six-study", "inc-study").replace("six-anlotinib", "inc-anlotinib")
            )
            text = text.replace('"value": "SIX"', '"value": "INC"').replace("SIX-00", f"INC{number}-00")
            made = json.loads(text.replace("six-", f"inc{number}-"))
            found[f"{made['resourceType']}/{made['id']}"] = made
    return list(found.values())


def call(*arguments: str | Path) -> str:
    """Runs the command line in this process; what it said on stdout."""
    said = io.StringIO()
    status = 0
    before, sys.argv = sys.argv, ["fhir-adapter", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(said):
            main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = before
    assert status == 0, said.getvalue()
    return said.getvalue()


class World:
    """A study on the server, and the folder of one who runs it."""

    def __init__(self, hapi: Hapi, folder: Path) -> None:
        self.hapi = hapi
        self.folder = folder
        self.resources = {f"{item['resourceType']}/{item['id']}": item for item in cohort()}
        self.study = folder / "inc.yaml"
        text = (SIX / "six.yaml").read_text("utf-8")
        self.study.write_text(
            text.replace("id: six\n", "id: inc\n").replace("value: SIX}", "value: INC}"), "utf-8"
        )
        hapi.load(list(self.resources.values()))

    def site(self, place: str, **settings: Any) -> Path:
        """A site file."""
        base: dict[str, Any] = {
            "source": {"kind": "rest", "url": self.hapi.base},
            "deletes": {"find": "history"},
            "write_back": {"policy": "allowed"},
        }
        return write_site(self.folder / place, **(base | settings))

    def pull(self, run: Path, **settings: Any) -> dict[str, Any]:
        """`fhir-adapter pull` into an existing run; what its manifest says of it."""
        (run / "site.yaml").write_bytes(self.site("nightly", **settings).read_bytes())
        call("pull", run, "--quiet")
        found: dict[str, Any] = json.loads((run / "manifest.json").read_bytes())["pull"]
        return found

    def run(self, *options: str, place: str = "nightly", **settings: Any) -> Path:
        """`fhir-adapter run`; the run folder."""
        site = self.site(place, **settings)
        said = call(
            "run", self.study, "--site", site, "--out", self.folder / place, "--quiet", "--json", *options
        )
        return Path(json.loads(said)["run"])

    def on_server(self) -> dict[str, str]:
        """Title → text of the documents that the adapter wrote for this study."""
        found = {}
        for item in self.hapi.search(f"DocumentReference?related=ResearchStudy/inc-study&_tag={TAG}"):
            for part in item["content"]:
                binary = self.hapi.get(part["attachment"]["url"])
                found[part["attachment"]["title"]] = base64.b64decode(binary["data"]).decode()
        return found


@pytest.fixture(scope="module")
def world(hapi: Hapi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The study after its first run, which was written back."""
    with pytest.MonkeyPatch.context() as patch:
        # Everything was written within the overlap of the marks, and would come again for it.
        patch.setattr(searches, "OVERLAP", dt.timedelta(0))
        made = World(hapi, tmp_path_factory.mktemp("incremental"))
        made.first = made.run("--write-back")  # type: ignore[attr-defined]
        yield made


def received(run: Path) -> dict[str, int]:
    """What came over the wire in a run, by type."""
    found: dict[str, int] = json.loads((run / "manifest.json").read_bytes())["pull"]["received"]
    return found


def same(run: Path, other: Path) -> None:
    """Two runs have the same datasets and results, byte for byte."""
    names = sorted(path.relative_to(run) for path in (run / "datasets").glob("*.parquet"))
    assert len(names) > 15
    assert [name for name in names if (run / name).read_bytes() != (other / name).read_bytes()] == []
    assert (run / "results.json").read_bytes() == (other / "results.json").read_bytes()


def test_a_hundredth_changes_and_a_few_are_deleted(world: Any) -> None:
    """The next run fetches what changed, and little besides, and gives what a full run on a new landing gives."""
    changed = [
        item | {"status": "amended"}
        for key, item in world.resources.items()
        if key.startswith("Observation/inc1-") and key.endswith("week9-t01")
    ]
    event = json.loads(
        json.dumps(world.resources["AdverseEvent/inc1-ne-fatigue"]).replace("C41338", "C41340")
    )
    assert event != world.resources["AdverseEvent/inc1-ne-fatigue"]
    world.hapi.load([*changed, event])
    assert 0.005 < (len(changed) + 1) / len(world.resources) < 0.02
    for key in (
        "AdverseEvent/inc0-ne-fatigue",
        "Observation/inc0-ex-haemoglobin",
        "Observation/inc1-ex-grade",
    ):
        assert world.hapi.delete(key) == 200
    run = world.run()
    came = received(run)
    # The study, its enrolments and what is shared are asked for in every pull.
    always = {"ResearchStudy": 1, "ResearchSubject": 6 * COPIES, "Medication": 1}
    assert {name: came[name] for name in always} == always
    assert {name: number for name, number in came.items() if name not in always} == {
        "AdverseEvent": 1, "Observation": len(changed),
    }  # fmt: skip
    assert json.loads((run / "manifest.json").read_bytes())["pull"]["outcome"]["deleted"] == 3
    full = world.run(place="full", bulk={"use": "never"})
    assert sum(received(full).values()) == len(world.resources) - 3
    same(run, full)
    before, after = results_of(world.first), results_of(run)
    fatigue = "toxicity.term.fatigue.any.n"
    assert (before[fatigue], after[fatigue]) == (2 * COPIES, 2 * COPIES - 1)


def test_a_deletion_is_found_without_a_history(world: Any) -> None:
    """By counts only the batch that has lost something is asked for anew; ids that agree bring nothing."""
    always = {"Medication", "ResearchStudy", "ResearchSubject"}
    assert world.hapi.delete("AdverseEvent/inc0-pr-fatigue") == 200
    pull = world.pull(world.first, deletes={"find": "compare"})
    assert pull["outcome"]["deleted"] == 1
    assert set(pull["received"]) == {"AdverseEvent", *always}
    pull = world.pull(world.first, deletes={"find": "compare", "compare_every_days": 0})
    assert pull["outcome"]["deleted"] == 0
    assert set(pull["received"]) == always


def test_a_withdrawal_takes_the_subject_out_of_everything(world: Any) -> None:
    """Landing, run folders and what was written lose the subject; the rest can still be retracted."""
    assert any("inc0-pd" in text for text in world.on_server().values())
    world.hapi.load(
        [
            {
                "resourceType": "Consent", "id": "inc0-pd-consent", "status": "inactive", "dateTime": "2021-05-01",
                "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope",
                                      "code": "research"}]},
                "category": [{"coding": [{"system": "http://loinc.org", "code": "57016-8"}]}],
                "patient": {"reference": "Patient/inc0-pd"}, "provision": {"type": "permit"},
            }
        ]
    )  # fmt: skip
    run = world.run("--write-back", on_withdrawal="purge")
    assert results_of(run)["flow.candidates.n"] == 6 * COPIES - 1
    documents = world.on_server()
    assert len(documents) == 3
    assert [title for title, text in documents.items() if "inc0-pd" in text or "INC0-004" in text] == []
    places = [world.folder / "nightly"]
    left = [path for place in places for path in place.rglob("*")
            if path.is_file() and (b"inc0-pd" in path.read_bytes() or b"INC0-004" in path.read_bytes())]  # fmt: skip
    assert left == []
    said = json.loads(call("retract", world.first, "--json"))
    assert set(said.values()) == {"deleted"}
    assert world.on_server() == {}
