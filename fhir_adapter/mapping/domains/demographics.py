"""DM and DS: who the subjects are, when they were enrolled and left, and whether they consented."""

from __future__ import annotations

from typing import Any

from fhir_adapter.mapping.domains.context import Context, Row
from fhir_adapter.mapping.domains.randomisation import randomisations

__all__ = ["demographics"]

_CONSENT = {
    "permit": "INFORMED CONSENT OBTAINED",
    "deny": "CONSENT DENIED",
    "withdrawn": "CONSENT WITHDRAWN",
}


def _consent_status(row: Row) -> str:
    if row["status"] == "inactive":
        return "withdrawn"
    return "deny" if row["status"] == "rejected" or row["provision"] == "deny" else "permit"


def _consents(context: Context) -> dict[str, list[tuple[str, str, int]]]:
    """Subject → (date, status, resource) of its consents to research, in order of date."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for row in context.table("ds_consent"):
        usubjid = context.subject(row.resource)
        if usubjid is None or (row["scope_code"] and "research" not in row["scope_code"]):
            continue
        status = _consent_status(row)
        found.setdefault(usubjid, []).append((row["DSSTDTC"] or "", status, row.resource))
        context.emit(
            "DS",
            row.view,
            [row.resource],
            usubjid,
            DSCAT="PROTOCOL MILESTONE" if status == "permit" else "DISPOSITION EVENT",
            DSTERM=status.upper(),
            DSDECOD=_CONSENT[status],
            DSSTDTC=row["DSSTDTC"],
        )
    return {usubjid: sorted(items) for usubjid, items in found.items()}


def _enrolment(context: Context, number: int, row: Row, usubjid: str) -> None:
    """DS rows of a ResearchSubject: enrolment, and the end of participation."""
    match = context.terminology.symbol("subject-status", row["status_code"])
    status = None if match is None else match.target
    if row["period_start"] is not None:
        context.emit(
            "DS",
            row.view,
            [number],
            usubjid,
            DSCAT="PROTOCOL MILESTONE",
            DSTERM="ENROLLED",
            DSDECOD="ENROLLED",
            DSSTDTC=row["period_start"],
        )
    if row["period_end"] is not None or status in {"OFF STUDY", "WITHDRAWN", "SCREEN FAILURE"}:
        context.emit(
            "DS",
            row.view,
            [number],
            usubjid,
            DSCAT="DISPOSITION EVENT",
            DSTERM=row["status_code"],
            DSDECOD=status,
            DSSTDTC=row["period_end"],
        )


def _person(context: Context, number: int, row: Row) -> dict[str, Any]:
    """Variables of a Patient."""
    match = context.terminology.symbol("sex", row["gender_code"])
    died = row["DTHDTC"] is not None or row["deceased"] is True
    if died and row["DTHDTC"] is None:
        context.finding("death-without-date", "a patient is recorded as dead without a date", number)
    return {
        "BRTHDTC": row["BRTHDTC"],
        "SEX": None if match is None else match.target,
        "DTHDTC": row["DTHDTC"],
        "DTHFL": "Y" if died else None,
    }


def _arm(context: Context, row: Row, name: str) -> str | None:
    """The arm: in words (R4), or the id of a comparison group of the study, whose name is taken (R5)."""
    arm: str | None = row[name]
    study = context.resolve(row["study_reference"])
    for group in context.table("ref_comparison_group"):
        if group.resource == study and group["link_id"] == arm and group["name"] is not None:
            return str(group["name"])
    return arm


def demographics(context: Context, enrolled: dict[int, list[Row]]) -> None:
    """Makes DM (one row per subject) and DS.

    Args:
        context: the partition.
        enrolled: the ResearchSubjects of this study, from `research_subjects`.
    """
    consents = _consents(context)
    details = {row.resource: row for row in context.table("ds_research_subject")}
    randomised = randomisations(context, enrolled)
    persons = {
        context.subjects[number]: (number, rows[0]) for number, rows in context.by_resource("dm_patient")
    }
    system = context.study.identity.usubjid_system
    memberships: dict[str, list[tuple[str, int, list[Row]]]] = {}
    for number, rows in enrolled.items():
        subject = context.subjects[number]
        if subject is not None and subject in context.usubjid:
            start = details[number]["period_start"] if number in details else None
            memberships.setdefault(subject, []).append((start or "", number, rows))
    for subject, usubjid in context.usubjid.items():
        values: dict[str, Any] = {}
        views: list[str] = []
        sources: list[int | None] = []
        person = persons.get(subject)
        if person is not None:
            number, row = person
            values |= _person(context, number, row)
            views.append(row.view)
            sources.append(number)
        own = sorted(memberships.get(subject, []), key=lambda item: item[:2])
        for _, number, rows in own:
            # The latest participation says the arm; all of them are sources.
            row = rows[0]
            names = [item["identifier_value"] for item in rows if system in (None, item["identifier_system"])]
            values |= {
                "SUBJID": next((name for name in names if name), None),
                "ARM": _arm(context, row, "ARM"),
                "ACTARM": _arm(context, row, "ACTARM") or _arm(context, row, "ARM"),
                "SUBJSTAT": row["SUBJSTAT"],
            }
            views.append(row.view)
            sources += [number, context.resolve(row["study_reference"])]
            if number in details:
                _enrolment(context, number, details[number], usubjid)
        if person is None and own:
            context.finding("patient-missing", "a subject of the study whose Patient did not land", own[0][1])
        given = consents.get(usubjid, [])
        if given:
            values["CONSENT"] = given[-1][1]
            values["RFICDTC"] = next((date for date, status, _ in given if status == "permit" and date), None)
            sources += [number for _, _, number in given]
        if usubjid in randomised:
            values["RANDDTC"], number = randomised[usubjid]
            sources.append(number)
        if sources:
            context.emit("DM", " ".join(dict.fromkeys(views)), sources, usubjid, **values)
