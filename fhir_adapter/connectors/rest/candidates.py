"""Candidates: the patients whose resources a pull brings, found by study, group, condition or all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from fhir_adapter.arrivals import Arrival, subject_key
from fhir_adapter.connectors.plan import CandidateSearch
from fhir_adapter.connectors.rest.pulling import Pulling, chunks
from fhir_adapter.connectors.rest.searches import Search
from fhir_adapter.errors import SourceIncomplete

__all__ = ["Candidates"]

_IDS_PER_QUERY = 50


class _Group(msgspec.Struct):
    """What is needed of a Group."""

    class Member(msgspec.Struct):
        """`Group.member`."""

        class Entity(msgspec.Struct):
            """`Group.member.entity`."""

            reference: str | None = None

        entity: Entity | None = None
        inactive: bool | None = None

    id: str = ""
    member: list[Member] | None = None


class _ResearchSubject(msgspec.Struct):
    """What is needed of a ResearchSubject."""

    class Study(msgspec.Struct):
        """`ResearchSubject.study`."""

        reference: str | None = None

    study: Study | None = None


class _Enrolment(_ResearchSubject):
    """A ResearchSubject that landed, by R4's name of its patient or R5's."""

    class Patient(msgspec.Struct):
        """`ResearchSubject.individual` or `.subject`."""

        reference: str | None = None

    id: str = ""
    individual: Patient | None = None
    subject: Patient | None = None


def _subjects(items: Iterable[Arrival], type_: str) -> set[str]:
    """Patients that resources of a type are about; what the server includes besides makes no candidates."""
    return {
        item.subject
        for item in items
        if item.type == type_ and item.state == "resource" and item.subject is not None
    }


def _active(group: _Group) -> set[str]:
    """Patients who are active members of a Group."""
    found = {
        subject_key(member.entity.reference if member.entity else None)
        for member in group.member or []
        if not member.inactive
    }
    return {key for key in found if key is not None}


class Candidates:
    """Finds the candidates of a plan; what it reads for that lands.

    Args:
        pulling: the pull.

    Attributes:
        former: keys of those whom the study had enrolled by what landed before, once `find` has ended.
    """

    def __init__(self, pulling: Pulling) -> None:
        self._pulling = pulling
        self.former: set[str] = set()

    def find(self) -> set[str]:
        """Keys (`Patient/<id>`) of all candidates.

        Raises:
            SourceIncomplete: the study or group is not there, or a count does not agree.
        """
        subjects: set[str] = set()
        for candidate in self._pulling.plan.candidates:
            subjects |= self._of(candidate)
        return subjects

    def _of(self, candidate: CandidateSearch) -> set[str]:
        if candidate.kind == "research-study":
            return self._enrolled(candidate.identifier)
        if candidate.kind == "group":
            return self._members(candidate.identifier)
        if candidate.kind == "condition":
            subjects: set[str] = set()
            for codes in chunks(candidate.codes, _IDS_PER_QUERY):
                for search in self._by_code(codes):
                    items, _ = self._pulling.search(search)
                    subjects |= _subjects(items, "Condition")
            return subjects
        search = Search("Patient", candidate.parameters, "Patient")
        items, complete = self._pulling.search(search)
        found = {item.id for item in items if item.type == "Patient"}
        if complete and not candidate.parameters:
            self._pulling.settle_lost("Patient", self._pulling.landing.known("Patient") - found)
        return {f"Patient/{id_}" for id_ in found}

    def _by_code(self, codes: tuple[str, ...]) -> Iterator[Search]:
        search = Search("Condition", (("code", ",".join(codes)),), "Condition?code")
        if len(codes) == 1 or self._pulling.fits(search):
            yield search
            return
        half = len(codes) // 2
        yield from self._by_code(codes[:half])
        yield from self._by_code(codes[half:])

    def _named(self, type_: str, identifier: str) -> list[Arrival]:
        token = identifier.removeprefix("|")
        items, _ = self._pulling.search(Search(type_, (("identifier", token),), f"{type_}?identifier"))
        found = [item for item in items if item.type == type_ and item.state == "resource"]
        if not found:
            raise SourceIncomplete(
                f"the server has no {type_} with the identifier of the study file",
                where=f"{self._pulling.client.base}/{type_}?identifier",
            )
        return found

    def _enrolled(self, identifier: str) -> set[str]:
        subjects: set[str] = set()
        studies: set[str] = set()
        enrolments: set[str] = set()
        complete = True
        landed = self._landed_enrolments()
        for study in self._named("ResearchStudy", identifier):
            name = f"ResearchStudy/{study.id}"
            studies.add(name)
            items, agreed = self._pulling.search(
                Search("ResearchSubject", (("study", name),), "ResearchSubject?study")
            )
            complete = complete and agreed
            enrolments |= {item.id for item in items if item.type == "ResearchSubject"}
            subjects |= _subjects(items, "ResearchSubject")
            for item in items:
                if item.type == "ResearchSubject" and item.state == "resource" and item.subject is None:
                    self._pulling.report.find(
                        "enrolment-without-patient", "a ResearchSubject refers to no Patient"
                    )
        ours = {
            id_: patient for id_, (study_, patient) in landed.items() if any(map(study_.endswith, studies))
        }
        if complete:
            # A deleted enrolment takes its subject out of the candidates, so no search by subject finds it.
            self._pulling.settle_lost("ResearchSubject", ours.keys() - enrolments)
        self.former |= {patient for patient in ours.values() if patient is not None}
        return subjects

    def _landed_enrolments(self) -> dict[str, tuple[str, str | None]]:
        """The enrolments that landed before: id → reference of the study, key of the patient."""
        found: dict[str, tuple[str, str | None]] = {}
        for body in self._pulling.landing.bodies("ResearchSubject"):
            try:
                head = msgspec.json.decode(body, type=_Enrolment)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # an enrolment of odd shape is quarantined by the mapping; it is not lost
            study = ((head.study.reference if head.study else None) or "").partition("/_history")[0]
            patient = head.individual or head.subject
            found[head.id] = study, subject_key(patient.reference if patient else None)
        return found

    def _members(self, identifier: str) -> set[str]:
        landed = {group.id: members for group, members in self._landed_groups()}
        subjects: set[str] = set()
        for group in self._named("Group", identifier):
            try:
                subjects |= _active(msgspec.json.decode(group.body, type=_Group))
            except msgspec.DecodeError as error:
                raise SourceIncomplete("the Group's members cannot be read", where="Group") from error
            self.former |= landed.get(group.id, set())
        return subjects

    def _landed_groups(self) -> Iterator[tuple[_Group, set[str]]]:
        for body in self._pulling.landing.bodies("Group"):
            try:
                group = msgspec.json.decode(body, type=_Group)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a Group of odd shape ends the pull if it is ours
            yield group, _active(group)
