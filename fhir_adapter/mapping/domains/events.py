"""AE: adverse events, with grade, causality and action out of every encoding that the views read.

The grade is looked for in each place in the order of the view's columns, and the first that is there
counts. A base severity (mild, moderate, severe) is a finding, because it is not CTCAE's scale. The last resort is a
grade at the end of the event's own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fhir_adapter.mapping.domains.context import Context, Row, first, texts
from fhir_adapter.mapping.domains.exposure import drug_of
from fhir_adapter.mapping.references import key_of

__all__ = ["adverse_events"]

#: Places of the grade, in order: coded elements (True) and integers.
_GRADES: tuple[tuple[str, bool], ...] = (
    ("grade_aeb", True),
    ("grade_aer", True),
    ("grade_aer_severity", True),
    ("grade_ctcae", True),
    ("grade_ctcae_mcode", True),
    ("grade_codexrt", True),
    ("grade_codexrt_1", True),
    ("grade_onconova", False),
    ("grade_onconova_1", False),
    ("grade_severity", True),
)
_ENDS = ("resolved_aeb", "resolved_ctcae", "resolved_onconova", "resolved_r5", "resolved_r5_misspelt")
#: NCIt's code of the seriousness criterion "results in death".
_DEATH = "C48275"
#: Causality from the weakest to the strongest.
_CAUSALITY = ("NOT RELATED", "UNLIKELY", "POSSIBLE", "PROBABLE", "DEFINITE", "RELATED")
_ACTIONS = (
    "UNKNOWN", "NOT APPLICABLE", "DOSE NOT CHANGED", "DOSE INCREASED", "DRUG INTERRUPTED", "DOSE REDUCED",
    "DRUG WITHDRAWN",
)  # fmt: skip


#: A grade at the end of the words of an event: `Nausea, CTCAE grade 3`, `Nausea (G3)`.
_GRADE_IN_WORDS = re.compile(r"[\s,;(-]+(?:CTCAE\s*)?(?:grade\s*|G)([0-5])\)?\s*$", re.IGNORECASE)


def _without_grade(words: Any) -> Any:
    """The words of an event, or a list of them, without a grade at their end."""
    if isinstance(words, list):
        return [_without_grade(one) for one in words]
    return words if words is None else _GRADE_IN_WORDS.sub("", words)


def _grade(context: Context, row: Row) -> int | None:
    """Grade, from the first place that has one that the map knows."""
    for name, coded in _GRADES:
        if coded:
            if texts(row, name) is None:
                continue
            target = context.target("ctcae-grade", row, name)
        else:
            if row[name] is None:
                continue
            target = str(row[name])
        if target is not None:
            return int(target)
    for words in (row["event_text"], *(row["event_display"] or [])):
        found = None if words is None else _GRADE_IN_WORDS.search(words)
        if found is not None:
            return int(found[1])
    return None


def _suspects(context: Context) -> dict[int, list[tuple[bool | None, str | None]]]:
    """Event → its suspects: (whether it is a study drug, None when that cannot be told; causality)."""
    drugs: set[str | None] = {drug.concept for drug in context.study.treatment.drugs}
    medicine = {
        row.resource: row
        for view in ("ex_medication_administration", "cm_medication_statement")
        for row in context.table(view)
    }
    found: dict[int, list[tuple[bool | None, str | None]]] = {}
    for view in ("ae_suspect_extension", "ae_suspect_core"):
        for row in context.table(view):
            cause = context.target("causality", row, "causality")
            if cause is None:
                for words in row.get("relatedness_text") or []:
                    match = context.terminology.translate("causality", [], words)
                    cause = cause or (None if match is None else match.target)
            found.setdefault(row.resource, []).append((_is_study_drug(context, row, medicine, drugs), cause))
    return found


def _is_study_drug(
    context: Context, row: Row, medicine: Mapping[int, Row], drugs: set[str | None]
) -> bool | None:
    """Whether a suspect is a study drug; None when it is not known what it is."""
    words: list[str | None] = [row.get("instance_text"), *(row.get("instance_display") or [])]
    columns: dict[str, Any] = {
        "drug_system": row.get("instance_system"),
        "drug_code": row.get("instance_code"),
        "drug_display": row.get("instance_display"),
        "drug_text": first({"words": [word for word in words if word]}, "words"),
        "drug_reference": None,
    }
    reference = row["instance_reference"]
    if reference is not None:
        key = key_of(reference) or ""
        if key.startswith("ResearchStudy/"):
            return True
        number = context.resolve(reference)
        if number is not None and number in medicine:
            return drug_of(context, medicine[number], number, count=False).concept in drugs
        if number is not None and number in context.medications:
            columns |= dict(context.medications[number])
        elif row["reference_display"]:
            columns["drug_text"] = row["reference_display"]
        else:
            return None
    concept = drug_of(context, columns, row.resource).concept
    return None if concept is None else concept in drugs


def _causality(suspects: list[tuple[bool | None, str | None]]) -> str | None:
    """The strongest causality to a study drug; an unknown suspect counts, another drug does not."""
    given = [cause for study_drug, cause in suspects if study_drug is not False and cause is not None]
    return max(given, key=_CAUSALITY.index) if given else None


def _actions(context: Context, row: Row) -> list[str]:
    """Every action that was taken, from the least to the gravest.

    Having left the study because of the event is told by its own extension and is a withdrawal.
    """
    codes = row["action_code"] or []
    found: set[str] = set()
    for number, code in enumerate(codes):
        systems = row["action_system"] or []
        system = systems[number] if len(systems) == len(codes) else (systems[0] if systems else None)
        match = context.terminology.translate("action-taken", [(system, code, None)])
        found |= {match.target} if match is not None and match.target is not None else set()
    if not codes and row["action_text"] is not None:
        values = row["action_text"] if isinstance(row["action_text"], list) else [row["action_text"]]
        for words in values:
            match = context.terminology.translate("action-taken", [], words)
            found |= {match.target} if match is not None and match.target is not None else set()
    if row["discontinued"] is True:
        found.add("DRUG WITHDRAWN")
    return sorted(found, key=_ACTIONS.index)


def _organ_class(context: Context, row: Row, term: str | None) -> str | None:
    """System organ class: by the study's map, as the data state it, else by CTCAE's category of the term.

    MedDRA's hierarchy is licensed: a class is never made up from a MedDRA code.
    """
    if term is None:
        return None
    stated = context.study.toxicity.organ_classes.get(term)
    if stated is not None:
        return stated
    for words in (*(row["event_display"] or []), *(row["category_display"] or [])):
        match = context.terminology.translate("system-organ-class", [], words, count=False)
        if match is not None and match.target is not None:
            return match.target
    match = context.terminology.symbol("system-organ-class", term, count=False)
    return None if match is None else match.target


def _term(context: Context, row: Row) -> tuple[str | None, str | None, str | None]:
    """(as reported, dictionary term, organ class). What no map knows keeps its words as the term."""
    written = texts(row, "event")
    named = Row(row | {name: _without_grade(row[name]) for name in ("event_text", "event_display")})
    named.view, named.resource = row.view, row.resource
    match = context.translate("adverse-event", named, "event")
    term = texts(named, "event") if match is None or match.target is None else match.target
    return written, term, _organ_class(context, row, term)


def adverse_events(context: Context) -> None:
    """Makes AE. Runs after `demographics`, which knows the dead, and `exposure`, which knows the drugs."""
    dead = {row["USUBJID"] for row in context.rows.get("DM", []) if row.get("DTHFL") == "Y"}
    suspects = _suspects(context)
    for row in context.table("ae_adverse_event"):
        usubjid = context.subject(row.resource)
        if usubjid is None:
            continue
        written, term, organ = _term(context, row)
        if term is None:
            context.quarantine(
                row.resource, "missing-element", "$.event", "an adverse event without an event"
            )
            continue
        grade = _grade(context, row)
        if grade is not None and not 0 <= grade <= 5:
            context.quarantine(row.resource, "out-of-range", "$.extension", "a grade that is not 0 to 5")
            continue
        if grade is None:
            context.finding(
                "grade-missing", "an adverse event without a grade that a map knows", row.resource
            )
        onset = first(row, "date", "date_start")
        date = onset or first(row, "detected", "recorded")
        if onset is None:
            context.finding(
                "event-date",
                "an adverse event without its date of onset; the date it was noticed is used",
                row.resource,
            )
        outcome = context.target("adverse-event-outcome", row, "outcome")
        fatal = grade == 5 or outcome == "FATAL"
        if fatal and usubjid not in dead:
            context.finding(
                "fatal-event-without-death", "a fatal event of a patient not recorded as dead", row.resource
            )
        serious = context.target("seriousness", row, "seriousness")
        if serious is None and row["criterion_code"]:
            serious = "Y"
        actions = _actions(context, row)
        context.emit(
            "AE",
            row.view,
            [row.resource],
            usubjid,
            AETERM=written,
            AEDECOD=term,
            AEBODSYS=organ,
            AETOXGR=grade,
            AESER=serious,
            AESDTH="Y" if fatal or _DEATH in (row["criterion_code"] or []) else None,
            AEREL=_causality(suspects.get(row.resource, [])),
            AEACN=actions[-1] if actions else None,
            AEACNALL=";".join(actions) or None,
            AEOUT=outcome,
            AESTDTC=date,
            AEENDTC=first(row, *_ENDS),
        )
