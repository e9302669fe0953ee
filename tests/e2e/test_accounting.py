"""Every landed resource has one disposition: the sums, the reasons, and what happens when a sum is off."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter import cli
from fhir_adapter.accounting import NOT_NEEDED
from fhir_adapter.pipeline import run as pipeline_run

from .conftest import SIX, Adapter, six_patients, write_site, write_source

#: What the six patients' own resources are not needed for (tests/data/six/README.md).
OF_THE_SIX = {
    ("AdverseEvent", "entered-in-error"): 1,
    ("Observation", "not-selected"): 6,
    ("Observation", "not-done"): 1,
}
PLANTED = {
    path.stem: json.loads(path.read_text("utf-8")) for path in sorted((SIX.parent / "planted").glob("*.json"))
}

STARRED = Counter(
    (case["resource"]["resourceType"], case["outcome"]) for case in PLANTED.values() if case["reason"] == "*"
)


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory, adapter: Adapter) -> Path:
    """The six patients with every planted resource beside them."""
    folder = tmp_path_factory.mktemp("planted")
    write_source(folder / "source", [*six_patients(), *(case["resource"] for case in PLANTED.values())])
    done = adapter(
        "run",
        SIX / "six.yaml",
        "--site",
        write_site(folder),
        "--out",
        folder,
        "--quiet",
        "--json",
        status=None,
    )
    assert done.status in {0, 3}, done.err
    return done.run


def accounting(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "accounting.json").read_text("utf-8"))
    return found


def test_the_sums_agree(planted_run: Path) -> None:
    """Counted at the wire and counted at mapping, type by type and in total."""
    found = accounting(planted_run)
    for type_, row in found["disposed"].items():
        parts = row["used"] + sum(row["not_needed"].values()) + sum(row["quarantined"].values())
        assert row["total"] == parts == found["landed"][type_]["total"], type_
    own = len(six_patients()) + len(PLANTED)
    assert own == found["total"] == sum(row["total"] for row in found["disposed"].values())


def test_each_planted_reason_is_counted_and_each_quarantined_resource_is_kept(planted_run: Path) -> None:
    """The accounting names every reason; the quarantine keeps the resource with reason and path."""
    disposed = accounting(planted_run)["disposed"]
    wanted = Counter(
        (case["resource"]["resourceType"], case["outcome"], case["reason"])
        for case in PLANTED.values()
        if case["outcome"] != "used" and case["reason"] != "*"
    )
    for (type_, outcome, reason), number in wanted.items():
        part = disposed[type_]["not_needed" if outcome == "not-needed" else "quarantined"]
        # The six have reasons of their own, the planted ones come on top; `*` stands for any reason.
        least = number + OF_THE_SIX.get((type_, reason), 0)
        assert least <= part.get(reason, 0) <= least + STARRED[type_, outcome], (type_, outcome, reason)
    assert {reason for row in disposed.values() for reason in row["not_needed"]} <= set(NOT_NEEDED)
    lines = (planted_run / "quarantine" / "quarantine.ndjson").read_text("utf-8").splitlines()
    kept = {(item["type"], item["id"]): item for item in map(json.loads, lines)}
    for case in PLANTED.values():
        if case["outcome"] == "quarantined":
            held = kept[case["resource"]["resourceType"], case["resource"]["id"]]
            assert held["reason"]
            assert json.loads(held["resource"]) == case["resource"]


def test_an_older_version_is_accounted_for(tmp_path: Path, adapter: Adapter) -> None:
    """A second drop changes one resource: the older version is superseded, and the sums still agree."""
    resources = six_patients()
    write_source(tmp_path / "source", resources)
    site = write_site(tmp_path)
    adapter("run", SIX / "six.yaml", "--site", site, "--out", tmp_path, "--quiet")
    changed = next(item for item in resources if item["id"] == "six-sd-week27-t01")
    changed["component"][0]["valueQuantity"]["value"] = 79
    write_source(tmp_path / "source", resources)
    run = adapter("run", SIX / "six.yaml", "--site", site, "--out", tmp_path, "--quiet", "--json").run
    found = accounting(run)
    assert 1 == found["disposed"]["Observation"]["not_needed"]["superseded"]
    assert len(resources) + 1 == found["total"]


def test_an_unreadable_line_is_quarantined(tmp_path: Path, adapter: Adapter) -> None:
    """A line that is no resource is kept and counted; the others go on."""
    write_source(tmp_path / "source", six_patients())
    with (tmp_path / "source" / "resources.ndjson").open("a", encoding="utf-8") as handle:
        handle.write('{"resourceType": "Observation"}\n')
    run = adapter(
        "run", SIX / "six.yaml", "--site", write_site(tmp_path), "--out", tmp_path, "--quiet", "--json"
    ).run
    found = accounting(run)["disposed"]["Observation"]["quarantined"]
    assert {"unreadable": 1} == found


def test_a_mapping_that_loses_a_resource_ends_with_status_30(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The landing counts what came, the mapping what it disposed of: one resource less is not passed over."""
    honest = pipeline_run.map_resources

    def forgetful(*arguments: Any, **settings: Any) -> Any:
        mapped = honest(*arguments, **settings)
        mapped.dispositions.remove(next(item for item in mapped.dispositions if item.type == "Observation"))
        return mapped

    monkeypatch.setattr(pipeline_run, "map_resources", forgetful)
    write_source(tmp_path / "source", six_patients())
    arguments = [
        "run",
        str(SIX / "six.yaml"),
        "--site",
        str(write_site(tmp_path)),
        "--out",
        str(tmp_path),
        "--quiet",
    ]
    monkeypatch.setattr(sys, "argv", ["fhir-adapter", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert 30 == ended.value.code
    number = sum(item["resourceType"] == "Observation" for item in six_patients())
    assert f"Observation: {number} landed, {number - 1} disposed of" in capsys.readouterr().err
    assert [] == list(tmp_path.rglob("report.html"))
