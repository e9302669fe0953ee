"""The whole way on a real HAPI FHIR server: pull, report, write back, read back, and again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import SIX, Adapter, results_of, six_patients, write_site

pytestmark = pytest.mark.hapi

Hapi = Any  # the class stands in tests/conftest.py, which is not importable by name
TAG = "https://fhir-adapter.org/tags|output"
KINDS = ("Binary", "Device", "DiagnosticReport", "DocumentReference", "Group", "Provenance")


@pytest.fixture(scope="module")
def site(hapi: Hapi, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose server holds the six patients."""
    hapi.load(six_patients())
    folder = tmp_path_factory.mktemp("hapi")
    return write_site(folder, source={"kind": "rest", "url": hapi.base}, write_back={"policy": "allowed"})


@pytest.fixture(scope="module")
def first(site: Path, adapter: Adapter) -> Path:
    """The run folder of a first run with write-back."""
    done = adapter(
        "run", SIX / "six.yaml", "--site", site, "--out", site.parent, "--write-back", "--quiet", "--json"
    )
    return done.run


def outputs(hapi: Hapi) -> dict[str, str]:
    """`Type/id` → version of everything that carries our tag."""
    found = [item for kind in KINDS for item in hapi.search(f"{kind}?_tag={TAG}&_count=200")]
    return {f"{item['resourceType']}/{item['id']}": item["meta"]["versionId"] for item in found}


def test_the_server_gives_the_numbers_that_files_give(first: Path, six_run: Path) -> None:
    """Two connectors, one study: the same results to the byte."""
    assert results_of(six_run) == results_of(first)


def test_what_was_written_is_there_and_refers_to_the_study(first: Path, hapi: Hapi) -> None:
    """Report, results and lineage as Binary; DocumentReference found by the study; one Provenance."""
    back = json.loads((first / "writeback.json").read_text("utf-8"))
    assert set(back["readBack"]) == set(outputs(hapi)) == set(back["actions"])
    documents = hapi.search("DocumentReference?related=ResearchStudy/six-study")
    assert 2 == len(documents)
    (provenance,) = hapi.search(f"Provenance?_tag={TAG}")
    (entity,) = provenance["entity"]
    lineage = hapi.get(entity["what"]["reference"])
    assert "lineage" in lineage["content"][0]["attachment"]["title"].lower()
    (report,) = hapi.search(f"DiagnosticReport?_tag={TAG}")
    assert report["subject"]["reference"].startswith("Group/")
    assert "Objective response rate 40.0% (2/5)." in report["conclusion"]


def test_a_second_run_writes_nothing_and_gives_the_same_results(
    first: Path, site: Path, hapi: Hapi, adapter: Adapter
) -> None:
    """Own output is left out of the pull and accounted for; no resource has a new version."""
    before = outputs(hapi)
    again = adapter(
        "run",
        SIX / "six.yaml",
        "--site",
        site,
        "--out",
        site.parent,
        "--write-back",
        "--full",
        "--quiet",
        "--json",
    ).run
    assert before == outputs(hapi)
    assert 0 == json.loads((again / "manifest.json").read_text("utf-8"))["stages"]["write-back"]["written"]
    assert (first / "results.json").read_bytes() == (again / "results.json").read_bytes()
    assert (first / "report.html").read_bytes() == (again / "report.html").read_bytes()


def test_explain_names_resources_with_their_versions(first: Path, adapter: Adapter) -> None:
    """The version that was used stands with each resource."""
    said = adapter("explain", first, "response.total.orr.n").out
    assert "Observation/six-cr-week9-t01/_history/" in said


def test_a_source_resource_can_still_be_deleted(first: Path, hapi: Hapi) -> None:
    """Nothing that was written holds a literal reference to the hospital's own data."""
    assert first.is_dir()
    assert 200 == hapi.delete("Observation/six-cr-baseline-t01")


def test_retract_takes_everything_back(first: Path, hapi: Hapi, adapter: Adapter) -> None:
    """All outputs are gone, the patients are not."""
    said = json.loads(adapter("retract", first, "--json").out)
    assert {"deleted"} == set(said.values())
    assert {} == outputs(hapi)
    assert hapi.count("Patient?_tag=http://terminology.hl7.org/CodeSystem/v3-ActReason|HTEST") >= 6
