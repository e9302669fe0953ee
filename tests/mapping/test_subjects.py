"""Candidates and the names of subjects."""

from __future__ import annotations

from functools import partial

import mapping_support as support
import pytest
from mapping_support import landed, rows, six, six_study

from fhir_adapter.demo import resources as r
from fhir_adapter.errors import SiteFileError, SourceNotFhir
from fhir_adapter.mapping.candidates import candidate_subjects, study_keys
from fhir_adapter.mapping.stage import map_resources

mapped = partial(support.mapped, patients=("six-ex", "six-ne"))


def cohort(**candidates: object) -> dict[str, object]:
    """A cohort of which only the candidates are said."""
    return {"cohort": {"candidates": candidates}}


def subject(id_: str, value: str, study: str = "ResearchStudy/six-study", **more: str) -> r.Resource:
    """A ResearchSubject."""
    return r.research_subject(
        id_,
        patient=more.get("patient", "Patient/other"),
        study=study,
        identifier=("https://fhir-adapter.org/six/subject", value),
        start="2021-01-01",
    )


def other(id_: str = "other", **more: object) -> r.Resource:
    """Another patient."""
    return r.patient(id_, gender="male", birth_date="1950-01-01", **more)  # type: ignore[arg-type]


def test_candidates_by_study():
    """ResearchSubjects of the ResearchStudy with the identifier; others are of no concern."""
    study = six_study()
    found = candidate_subjects(landed([*six(), other(), subject("s", "X", "ResearchStudy/unknown")]), study)
    assert found == {f"Patient/six-{name}" for name in ("cr", "pr", "sd", "pd", "ne", "ex")}


def test_a_site_study_is_part_of_the_study():
    """Subjects of a ResearchStudy that is part of the study belong to it."""
    site = r.research_study(
        "site", identifier=("urn:x", "1"), title="Site", part_of="ResearchStudy/six-study"
    )
    given = landed([*six(), site, other(), subject("s", "X", "ResearchStudy/site")])
    assert study_keys(given, six_study()) == {"ResearchStudy/six-study", "ResearchStudy/site"}
    assert "Patient/other" in candidate_subjects(given, six_study())


def test_candidates_by_condition_and_group_and_all():
    """A condition's system and code; the members of a group who are active; everybody."""
    given = landed([
        *six(),
        other(),
        {"resourceType": "Group", "id": "g", "type": "person", "actual": True,
         "identifier": [{"system": "urn:g", "value": "1"}],
         "member": [{"entity": {"reference": "Patient/other"}},
                    {"entity": {"reference": "Patient/six-cr"}, "inactive": True}]},
    ])  # fmt: skip
    by_condition = six_study(**cohort(condition=["http://hl7.org/fhir/sid/icd-10|C48.0"]))
    assert len(candidate_subjects(given, by_condition)) == 6
    by_group = six_study(**cohort(group={"system": "urn:g", "value": "1"}))
    assert candidate_subjects(given, by_group) == {"Patient/other"}
    everybody = six_study(**cohort(all_patients=True))
    assert len(candidate_subjects(given, everybody)) == 7


def test_a_given_list_restricts_further():
    """Patients outside the list are not candidates, whatever the study says."""
    result = map_resources(
        landed(six()), six_study(), key=None, candidates={"Patient/six-cr", "Patient/nobody"}
    )
    assert [row[0] for row in rows(result, "DM", "USUBJID")] == ["SIX-001"]
    reasons = {item.reason for item in result.dispositions if item.id.startswith("six-pr")}
    assert reasons == {"not-a-candidate"}


def test_a_subject_without_identifier_is_named_by_the_key():
    """An HMAC of the patient key: the same every time, another with another key."""
    study = six_study(identity={"usubjid_system": None})
    names = []
    for key in (b"one", b"one", b"two"):
        result = map_resources(landed(six()), study, key=key)
        names.append(sorted(row[0] for row in rows(result, "DM", "USUBJID")))
    assert names[0] == names[1]
    assert set(names[0]).isdisjoint(names[2])
    assert all(len(name) == 32 and "six" not in name for name in names[0])


def test_without_identifier_and_key_there_is_no_name():
    """The message says what to do."""
    with pytest.raises(SiteFileError, match="give the site a key file"):
        mapped(identity={"usubjid_system": "urn:nothing"})


def test_the_identifier_may_stand_on_the_patient():
    """Where ResearchSubject has none of the system, Patient's counts."""
    patients = [other("six-ne", identifier=("urn:mrn", "N")), other("six-ex", identifier=("urn:mrn", "E"))]
    result = mapped(*patients, identity={"usubjid_system": "urn:mrn"})
    assert [row[0] for row in rows(result, "DM", "USUBJID")] == ["E", "N"]


def test_two_patients_with_one_identifier_stop_the_run():
    """They would be mixed up in every dataset; the message carries no identifier, the status is 22."""
    with pytest.raises(
        SourceNotFhir, match=r"1 subject identifier\(s\) are carried by two or more patients"
    ) as caught:
        mapped(other(), subject("s", "SIX-005"))
    assert "SIX-005" not in str(caught.value)
    assert caught.value.exit_status == 22


def test_merged_records_of_one_patient_are_one_subject():
    """Two records with one identifier, of which one replaces the other, feed one subject."""
    old = other(replaced_by="Patient/six-ne")
    result = mapped(
        old, subject("s", "SIX-005"), r.ecog("e", patient="Patient/other", date="2021-05-30", value=2)
    )
    assert [row[0] for row in rows(result, "DM", "USUBJID")] == ["SIX-005", "SIX-006"]
    assert rows(result, "SC", "SCSTRESC", USUBJID="SIX-005", SCDTC="2021-05-30") == [("2",)]


def test_death_without_a_date():
    """`deceasedBoolean`: the flag without a date, and a finding."""
    result = mapped(other("six-ex", deceased=True))
    assert rows(result, "DM", "DTHFL", "DTHDTC", USUBJID="SIX-006") == [("Y", None)]
    assert "death-without-date" in {item.code for item in result.findings}


def test_a_subject_whose_patient_did_not_land():
    """The subject is there without sex and birth, and a finding says why."""
    result = mapped(without=["Patient/six-ex"])
    assert rows(result, "DM", "SUBJID", "SEX", USUBJID="SIX-006") == [("SIX-006", None)]
    assert "patient-missing" in {item.code for item in result.findings}


@pytest.mark.parametrize(
    ("facts", "status", "event"),
    [
        ({}, "permit", "INFORMED CONSENT OBTAINED"),
        ({"provision": "deny"}, "deny", "CONSENT DENIED"),
        ({"status": "rejected"}, "deny", "CONSENT DENIED"),
        ({"status": "inactive"}, "withdrawn", "CONSENT WITHDRAWN"),
    ],
)
def test_consent(facts: dict[str, object], status: str, event: str):
    """The latest consent says the status; each is a row of DS."""
    made = r.consent("c", patient="Patient/six-ex", date="2021-06-20", **facts)  # type: ignore[arg-type]
    result = mapped(made)
    assert rows(result, "DM", "CONSENT", USUBJID="SIX-006") == [(status,)]
    assert (event, "2021-06-20") in rows(result, "DS", "DSDECOD", "DSSTDTC", USUBJID="SIX-006")


def test_a_preliminary_observation_counts_where_the_study_says_so():
    """`mapping.preliminary`."""
    made = r.ecog("e", patient="Patient/six-ex", date="2021-07-05", value=0) | {"status": "preliminary"}
    assert rows(mapped(made), "SC", "SCSTRESC", SCDTC="2021-07-05") == []
    assert rows(mapped(made, mapping={"preliminary": True}), "SC", "SCSTRESC", SCDTC="2021-07-05") == [("0",)]
