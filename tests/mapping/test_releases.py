"""Views by FHIR release: the same names and columns, chosen by the site, the server, or what the resources show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mapping_support as support
import pytest

from fhir_adapter.demo.synthetic.cohort import DEFAULT_STUDY, synthetic_subject
from fhir_adapter.demo.synthetic.releases import in_release
from fhir_adapter.demo.synthetic.stream import cohort_resources
from fhir_adapter.errors import SiteFileError
from fhir_adapter.mapping.catalogue import shipped_views, view_names
from fhir_adapter.mapping.release import Release, detect_release, release_of_version
from fhir_adapter.mapping.stage import map_resources
from fhir_adapter.mapping.views import load_view
from fhir_adapter.study import load_study

STUDY, _ = load_study(support.DATA / "dialects" / "study.yaml")
SUBJECT = synthetic_subject(51, seed=0, study=DEFAULT_STUDY)


def written(release: Release) -> list[support.Raw]:
    """One subject in a release."""
    return support.landed(cohort_resources([SUBJECT], release=release))


@pytest.mark.parametrize("name", sorted(shipped_views("R5")))
def test_a_view_of_r5(name: str) -> None:
    """Each view compiles against the elements of R5, says that it is for it, and has the columns of R4's."""
    path = shipped_views("R5")[name]
    made = load_view(path, release="R5")
    assert made.name == name
    assert made.compiled
    assert '"5.0.0"' in path.read_text("utf-8")
    base = shipped_views("R4").get(name)
    if base is not None:
        # What R5 has as one element, R4 had in several places.
        gone = {"ae_adverse_event": {"resolved_r5_misspelt"}, "ae_suspect_core": {"relatedness_text"}}
        columns = {column.name for column in load_view(base).columns}
        assert columns - {column.name for column in made.columns} == gone.get(name, set())


@pytest.mark.parametrize(
    ("version", "release"),
    [("4.0.1", "R4"), ("4.3.0", "R4B"), ("5.0.0", "R5"), ("3.0.2", None), ("", None), (None, None)],
)
def test_the_release_of_a_version(version: str | None, release: str | None) -> None:
    """The `fhirVersion` of a CapabilityStatement."""
    assert release_of_version(version) == release


@pytest.mark.parametrize("release", ["R4", "R5"])
def test_resources_show_their_release(release: Release) -> None:
    """Elements that only one release has tell which it is."""
    found, counts = detect_release(written(release))
    assert found == release
    assert set(counts) == {release}
    assert detect_release([])[0] == "R4"


def _aes(resources: Iterable[support.Raw], release: Release | None) -> Any:
    return map_resources(resources, STUDY, key=None, release=release)


def test_a_wrong_release_is_refused() -> None:
    """R5 resources that would be read as R4, because the site says so, would look empty."""
    with pytest.raises(SiteFileError, match="elements of R5, and would be read as R4") as error:
        _aes(written("R5"), "R4")
    assert error.value.where == "fhir_version"


def test_a_mixture_of_releases_is_found() -> None:
    """One resource of R4 among those of R5: a finding, with their number."""
    odd = next(
        item
        for item in cohort_resources([SUBJECT])
        if item["id"].endswith("-surgery") or item["resourceType"] == "Encounter"
    )
    made = [in_release(item, "R5") for item in cohort_resources([SUBJECT])]
    result = _aes(support.landed([*made, odd | {"id": "odd"}]), None)
    assert [item.detail for item in result.findings if item.code == "other-release"] == ["1"]
    assert "other-release" not in {item.code for item in _aes(written("R5"), None).findings}


def test_an_r5_event_in_error_does_not_count() -> None:
    """R5 has the status of an adverse event as an element."""
    made = [in_release(item, "R5") for item in cohort_resources([SUBJECT])]
    events = [item for item in made if item["resourceType"] == "AdverseEvent"]
    events[0]["status"] = "entered-in-error"
    result = _aes(support.landed(made), None)
    assert len(result.datasets["AE"]) == len(events) - 1
    dispositions = {item.id: item.reason for item in result.dispositions}
    assert dispositions[events[0]["id"]] == "entered-in-error"


def test_a_drug_that_is_not_taken_is_no_medication() -> None:
    """R5 says so by the adherence of a statement."""
    made = {
        "resourceType": "MedicationStatement",
        "id": "a-statement",
        "status": "recorded",
        "medication": {"concept": {"text": "Amlodipine"}},
        "subject": {"reference": f"Patient/{SUBJECT.key}"},
        "effectivePeriod": {"start": "2021-01-01"},
    }
    system = "http://hl7.org/fhir/CodeSystem/medication-statement-adherence"
    not_taken = made | {"adherence": {"code": {"coding": [{"system": system, "code": "not-taking"}]}}}
    base = [in_release(item, "R5") for item in cohort_resources([SUBJECT])]
    for resource, number in ((made, 1), (not_taken, 0)):
        frame = _aes(support.landed([*base, resource]), None).datasets["CM"]
        assert (frame["CMSTDTC"] == "2021-01-01").sum() == number


def test_r5_alone_has_comparison_groups() -> None:
    """A view of what only R5 has is none of R4's."""
    assert set(view_names(STUDY, "R5")) - set(view_names(STUDY)) == {"ref_comparison_group"}
