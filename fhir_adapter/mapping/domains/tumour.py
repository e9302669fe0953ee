"""TU, TR and RS: lesions, what was measured of them, and responses as recorded.

A lesion is known by the identifier of the BodyStructure in `focus`, else by a tracking identifier among the
components (DICOM TID 1500), else by an identifier of the Observation of the system that the study names.
Without any of these the Observation is quarantined: a lesion is never guessed from its place or its size.

An Observation whose `focus` names several BodyStructures is of the lesion into which they merged (`T01/T02`,
as SDTM names it). A fragment has a BodyStructure of its own, whose identifier is that of the whole and a number
(`T01.1`), or shares that of the whole and is told by its tracking identifier. What fragments and merged lesions
count is said in `derive.recist.pieces`.

The role comes from a component (DICOM CID 6145) or the category, else from the prefix of the identifier as
CDISC writes it (`T01`, `NT01`, `NEW01`), else from its words. Readers may give a lesion different roles: TU has
a row for each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from fhir_adapter.mapping.domains.context import Context, Row, codings, first, in_mm, texts
from fhir_adapter.mapping.domains.visits import encounter_label

__all__ = ["responses", "tumours"]

_PREFIX = re.compile(r"^(NEW|NT|T)[-_ ]?\d", re.IGNORECASE)
_NUMBERED = re.compile(r"\.\d+$")
_ROLE_OF_PREFIX = {"T": "TARGET", "NT": "NON-TARGET", "NEW": "NEW"}
_TESTS = {"LDIAM": "Longest Diameter", "LPERP": "Longest Perpendicular", "TUMSTATE": "Tumour State"}
TOO_SMALL = "TOO SMALL TO MEASURE"


# Evaluator, and which of several (TREVAL, TREVALID).
_Evaluator = tuple[str, str | None]


@dataclass
class _Lesion:
    """What is known of a lesion, gathered from its BodyStructure and its Observations."""

    link: str
    structure: int | None = None
    location: str | None = None
    nodal: bool = False
    placed: bool = False
    found: str | None = None
    roles: dict[_Evaluator, list[str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    observed: list[tuple[str, str, int, _Evaluator]] = field(default_factory=list)

    def parts(self) -> list[str]:
        """The lesions that merged into this one, or that it is a fragment of, by its name."""
        whole = _NUMBERED.sub("", self.link)
        return self.link.split("/") if "/" in self.link else [whole] if whole != self.link else []


@dataclass
class _Measurement:
    """One quantity of an Observation, as written."""

    value: Any
    comparator: str | None
    unit: str | None
    unit_text: str | None
    absent: str | None
    path: str


@dataclass
class _Assessment:
    """One Observation of a lesion."""

    number: int
    row: Row
    lesion: _Lesion
    usubjid: str
    date: str
    visit: str | None
    sources: list[int | None]
    parts: dict[str, _Measurement] = field(default_factory=dict)


Lesions = dict[tuple[str, str], _Lesion]


def _structures(context: Context) -> dict[int, str]:
    """BodyStructure → identifier: of the configured system, else typed BodyStructure, else the first."""
    system = context.study.mapping.lesion_identifier_system
    found: dict[int, str] = {}
    for number, rows in context.by_resource("tu_body_structure"):
        named = [row for row in rows if row["identifier_value"]]
        chosen = [row for row in named if system is not None and row["identifier_system"] == system]
        chosen = (
            chosen or [row for row in named if "BodyStructure" in (row["identifier_type"] or [])] or named
        )
        if chosen:
            found[number] = str(chosen[0]["identifier_value"]).strip()
    return found


def _lesions(context: Context, structures: Mapping[int, str]) -> Lesions:
    """Lesions that have a BodyStructure, with location and whether it is a node."""
    lesions: Lesions = {}
    for number, rows in context.by_resource("tu_body_structure"):
        usubjid = context.subject(number)
        if usubjid is None or number not in structures:
            continue
        lesion = lesions.setdefault((usubjid, structures[number]), _Lesion(structures[number]))
        if lesion.structure is None:
            lesion.structure = number
            _place(context, lesion, rows[0], "location")
    return lesions


def _place(context: Context, lesion: _Lesion, row: Row, name: str) -> None:
    """Location and node of a lesion, from a coded element."""
    if lesion.location is not None or (not codings(row, name) and first(row, f"{name}_text") is None):
        return
    match = context.translate("lesion-location", row, name)
    lesion.location = texts(row, name) if match is None or match.target is None else match.target
    lesion.placed = match is not None
    lesion.nodal = match is not None and match.properties.get("nodal") == "Y"


def _components(context: Context, rows: list[Row]) -> dict[str, Row]:
    """What the components of an Observation say → their rows (`LONGEST`, `ROLE-TARGET`, `TIME-POINT` …)."""
    found: dict[str, Row] = {}
    for row in rows:
        kind = context.target("tumor-component", row, "component", count=False)
        if kind is not None:
            found.setdefault(kind, row)
    return found


def _absent(row: Row, prefix: str) -> str | None:
    value = first(row, f"{prefix}absent", f"{prefix}absent_text")
    return None if value is None else str(value)


def _identity(
    context: Context, row: Row, parts: Mapping[str, Row], structures: Mapping[int, str]
) -> tuple[str | None, int | None]:
    """Identifier of the lesion, and the BodyStructure that has it."""
    focused: dict[str, int] = {}
    for reference in (row.get("body_structure"), *(row["focus"] or [])):
        number = context.resolve(reference)
        if (
            number is not None
            and number in structures
            and context.subject(number) == context.subject(row.resource)
        ):
            focused.setdefault(structures[number], number)
    if len(focused) > 1:
        return "/".join(sorted(focused)), None
    for link, number in focused.items():
        for kind in ("LESION-ID", "TRACKING-ID"):
            name = str(parts[kind]["component_string"] or "").strip() if kind in parts else ""
            if name != link and _NUMBERED.sub("", name) == link:
                return name, number
        return link, number
    logical = _logical_focus(context, row)
    if logical is not None:
        return logical, None
    for kind in ("TRACKING-UID", "LESION-ID", "TRACKING-ID"):
        if kind in parts and parts[kind]["component_string"]:
            return str(parts[kind]["component_string"]).strip(), None
    system = context.study.mapping.lesion_identifier_system
    systems, values = row["own_identifier_system"] or [], row["own_identifier_value"] or []
    if system is not None and len(systems) == len(values):
        for own, value in zip(systems, values, strict=True):
            if own == system:
                return str(value).strip(), None
    return None, None


def _logical_focus(context: Context, row: Row) -> str | None:
    """Identifier in a `focus` that names a BodyStructure, or the configured system, by identifier only."""
    systems, values = row["focus_identifier_system"] or [], row["focus_identifier_value"] or []
    wanted = context.study.mapping.lesion_identifier_system
    if len(values) == 1 and (
        row["focus_type"] == ["BodyStructure"] or (wanted is not None and systems == [wanted])
    ):
        return str(values[0]).strip()
    return None


def _when(context: Context, row: Row) -> tuple[str | None, list[str]]:
    """Date of an assessment (its own, else its scan's), and the Encounters it belongs to, nearest first."""
    date = first(row, "effective", "effective_start", "effective_instant")
    encounters = [row["encounter"]] if row["encounter"] else []
    for reference in row.get("part_of") or []:
        number = context.resolve(reference)
        if number is not None and number in context.scans:
            started, encounter = context.scans[number]
            date = date or started
            encounters += [encounter] if encounter else []
    usubjid = context.subject(row.resource)
    if not encounters and date is not None and usubjid is not None:
        # An assessment that names neither visit nor scan belongs to the scan of its day, if there is one only.
        same_day = context.scan_days.get((usubjid, str(date)[:10]), [])
        encounter = context.scans[same_day[0]][1] if len(same_day) == 1 else None
        encounters += [encounter] if encounter else []
    return (None if date is None else str(date)), encounters


def _assess(
    context: Context, number: int, rows: list[Row], lesions: Lesions, structures: Mapping[int, str]
) -> _Assessment | None:
    """Joins an Observation with its lesion, date and visit; None when it cannot be used."""
    usubjid = context.subject(number)
    if usubjid is None:
        return None
    row = rows[0]
    parts = _components(context, rows)
    link, structure = _identity(context, row, parts, structures)
    if not link:
        context.quarantine(
            number, "lesion-identity", "$.focus", "a tumour Observation does not say which lesion it is about"
        )
        return None
    date, encounters = _when(context, row)
    if date is None:
        context.quarantine(number, "no-date", "$.effective", "an assessment without a date")
        return None
    lesion = lesions.setdefault((usubjid, link), _Lesion(link))
    if lesion.structure is None:
        lesion.structure = structure
    _place(context, lesion, row, "site")
    evaluator = _evaluator(context, row)
    roles = lesion.roles.setdefault(evaluator, [])
    for kind in ("ROLE-TARGET", "ROLE-NON-TARGET"):
        if kind in parts and parts[kind]["component_boolean"] is not False:
            roles.append(kind.removeprefix("ROLE-"))
    role = context.target("lesion-role", row, "role", count=False)
    if role is not None:
        roles.append(role)
    tracked = parts.get("TRACKING-ID")
    if tracked is not None and tracked["component_string"]:
        lesion.names.append(str(tracked["component_string"]).strip())
    lesion.observed.append((date, context.keys[number], number, evaluator))
    point = parts.get("TIME-POINT")
    visit_source: int | None = None
    label = None if point is None else first(point, "component_string")
    if label is None:
        label, visit_source = encounter_label(context, *encounters)
    found = _Assessment(number, row, lesion, usubjid, date, label, [number, structure, visit_source])
    for kind, part in parts.items():
        # A view of components has one row per component, in their order.
        place = next(position for position, item in enumerate(rows) if item is part)
        found.parts[kind] = _Measurement(
            part["component_value"],
            part["component_comparator"],
            part["component_unit"],
            part["component_unit_text"],
            _absent(part, "component_"),
            f"$.component[{place}]",
        )
    return found


def _evaluator(context: Context, row: Row) -> _Evaluator:
    """The evaluator that the performer stands for, and which of several readers.

    A person's name stands for none and is not kept: what nobody else is said to have read, the investigator did.
    """
    for name in row["performer_text"] or []:
        match = context.terminology.translate("evaluator", [], name, count=False)
        if match is not None and match.target is not None:
            return match.target, match.properties.get("reader")
    return "INVESTIGATOR", None


def _emit(context: Context, found: _Assessment, test: str, **values: Any) -> None:
    evaluator, reader = _evaluator(context, found.row)
    context.emit(
        "TR",
        found.row.view,
        found.sources,
        found.usubjid,
        TRLNKID=found.lesion.link,
        TRTESTCD=test,
        TRTEST=_TESTS[test],
        TRMETHOD=context.target("method", found.row, "method") or texts(found.row, "method"),
        TREVAL=evaluator,
        TREVALID=reader,
        VISIT=found.visit,
        TRDTC=found.date,
        **values,
    )


def _text_of(value: Decimal) -> str:
    """A number without trailing zeros: 49.5, 60, 0."""
    text = format(value.normalize(), "f")
    return "0" if text in {"-0", "0"} else text


def _choose(context: Context, found: _Assessment) -> tuple[str, _Measurement | None]:
    """Which diameter counts: the short axis of a node, the longest diameter of anything else."""
    parts, lesion = found.parts, found.lesion
    axis, longest, additional = parts.get("SHORT-AXIS"), parts.get("LONGEST"), parts.get("ADDITIONAL")
    if axis is not None and not lesion.placed:
        # Only nodes are measured by their short axis (RECIST 1.1, 3.1.1).
        lesion.nodal = True
    if not lesion.nodal:
        return "LDIAM", longest
    if axis is not None or additional is not None:
        return "LPERP", axis or additional
    if longest is not None and longest.value is not None:
        context.finding(
            "node-longest-diameter",
            "a node has a longest diameter only; it is taken for its short axis",
            found.number,
        )
    return "LPERP", longest


def _measure(context: Context, found: _Assessment) -> None:
    """The TR row of a diameter."""
    test, chosen = _choose(context, found)
    whole = _absent(found.row, "")
    if chosen is None and whole is None:
        context.quarantine(
            found.number, "no-diameter", "$.component", "a tumour size without the diameter that counts"
        )
        return
    absent = whole if chosen is None or (chosen.value is None and whole is not None) else chosen.absent
    if chosen is None or chosen.value is None:
        if absent is None:
            context.quarantine(
                found.number,
                "no-value",
                chosen.path if chosen else "$",
                "a diameter with neither value nor reason",
            )
            return
        _emit(context, found, test, TRSTAT="NOT DONE", TRREASND=absent)
        return
    unit = chosen.unit
    if unit is None and chosen.unit_text in {"mm", "cm"}:
        unit = chosen.unit_text
        context.finding("unit-as-text", "a unit that is written, not coded, was taken as UCUM", found.number)
    try:
        size = in_mm(chosen.value, unit or "")
    except ValueError as error:
        reason = str(error)
        text = (
            "a length in a unit other than mm or cm" if reason == "unit" else "a length that is not a length"
        )
        context.quarantine(found.number, reason, f"{chosen.path}.valueQuantity", text)
        return
    if chosen.comparator not in {None, "<", "<="}:
        context.quarantine(
            found.number,
            "comparator",
            f"{chosen.path}.valueQuantity",
            "a diameter that is only known to be larger",
        )
        return
    written = _text_of(Decimal(str(chosen.value)))
    small = chosen.comparator is not None
    _emit(
        context,
        found,
        test,
        TRORRES=f"{chosen.comparator}{written}" if small else written,
        TRORRESU=unit,
        TRSTRESC=TOO_SMALL if small else _text_of(size),
        TRSTRESN=None if small else float(size),
        TRSTRESU=None if small else "mm",
    )


def _state(context: Context, found: _Assessment) -> None:
    """The TR row of a state; what no map knows keeps its words and has no result."""
    row = found.row
    absent = _absent(row, "")
    written = texts(row, "state") or first(row, "state_string")
    if written is None:
        if absent is None:
            context.quarantine(found.number, "no-value", "$.value", "a state with neither value nor reason")
        else:
            _emit(context, found, "TUMSTATE", TRSTAT="NOT DONE", TRREASND=absent)
        return
    match = context.terminology.translate(
        "tumor-state", codings(row, "state"), first(row, "state_text", "state_string")
    )
    target = None if match is None else match.target
    if target == "NOT ASSESSED":
        _emit(context, found, "TUMSTATE", TRORRES=written, TRSTAT="NOT DONE", TRREASND=written)
        return
    _emit(context, found, "TUMSTATE", TRORRES=written, TRSTRESC=target)


def _role(
    context: Context, lesion: _Lesion, evaluator: _Evaluator | None, wholes: list[_Lesion]
) -> tuple[str | None, str | None]:
    """(role, as found) of a lesion by an evaluator; of a piece without one that of what it is a piece of."""
    source = min(_first(lesion, evaluator), default=("", "", lesion.structure))[2]
    given = list(dict.fromkeys(lesion.roles.get(evaluator, []) if evaluator is not None else []))
    given = given or list(dict.fromkeys(role for roles in lesion.roles.values() for role in roles))
    named, called = None, None
    for name in (lesion.link, *lesion.names):
        prefix = _PREFIX.match(name)
        match = context.terminology.translate("lesion-role", [], name, count=False)
        found = _ROLE_OF_PREFIX[prefix[1].upper()] if prefix is not None else match.target if match else None
        if named is None and found is not None:
            named, called = found, name
    role = given[0] if given else named
    for whole in wholes if role is None else []:
        role = role or _role(context, whole, evaluator, [])[0]
    if source is not None:
        if len(given) > 1 or (given and named is not None and named != given[0]):
            context.finding(
                "role-conflict", "a lesion is given different roles; the first coded one is used", source
            )
        if role is None:
            context.finding(
                "lesion-role", "a lesion whose role (target, non-target, new) is not said", source
            )
    return role, (given[0] if given else called)


def _first(lesion: _Lesion, evaluator: _Evaluator | None) -> list[tuple[str, str, int]]:
    """Date, key and number of a lesion's Observations, an evaluator's or all."""
    return [item[:3] for item in lesion.observed if evaluator is None or item[3] == evaluator]


def tumours(context: Context) -> None:
    """Makes TR (one row per Observation of a lesion) and TU (one row per lesion)."""
    structures = _structures(context)
    lesions = _lesions(context, structures)
    sizes: list[_Assessment] = []
    for number, rows in context.by_resource("tr_tumor_size"):
        found = _assess(context, number, rows, lesions, structures)
        if found is not None:
            sizes.append(found)
    for number, rows in context.by_resource("tr_tumor_diameter"):
        found = _assess(context, number, rows, lesions, structures)
        if found is not None:
            kind = context.target("tumor-component", rows[0], "test") or "LONGEST"
            row = rows[0]
            found.parts[kind] = _Measurement(
                row["value"],
                row["value_comparator"],
                row["value_unit"],
                row["value_unit_text"],
                _absent(row, ""),
                "$",
            )
            sizes.append(found)
    for found in sizes:
        # Whether a lesion is a node must be known from all its Observations before any is read.
        if "SHORT-AXIS" in found.parts and not found.lesion.placed:
            found.lesion.nodal = True
    by_axis = {id(found.lesion) for found in sizes if "SHORT-AXIS" in found.parts}
    for (usubjid, _), lesion in lesions.items():
        parts = [lesions[usubjid, part] for part in lesion.parts() if (usubjid, part) in lesions]
        if parts and not lesion.placed and id(lesion) not in by_axis:
            lesion.nodal = all(part.nodal for part in parts)
    for found in sizes:
        _measure(context, found)
    for number, rows in context.by_resource("tr_tumor_state"):
        state = _assess(context, number, rows, lesions, structures)
        if state is not None:
            _state(context, state)
    for (usubjid, link), lesion in sorted(lesions.items()):
        # An Observation that was quarantined says nothing of its lesion.
        used = [item for item in lesion.observed if item[2] in context.used]
        if not used and (lesion.structure is None or _PREFIX.match(link) is None):
            continue
        wholes = [lesions[usubjid, part] for part in lesion.parts() if (usubjid, part) in lesions]
        readers: list[_Evaluator | None] = sorted({item[3] for item in used}, key=_by_name) or [None]
        for evaluator in readers:
            observed = min(
                (item[:3] for item in used if evaluator is None or item[3] == evaluator), default=None
            )
            role, found_as = _role(context, lesion, evaluator, wholes)
            source = observed[2] if observed is not None else None
            view = "tu_body_structure" if lesion.structure is not None else "tr_tumor_size"
            context.emit(
                "TU",
                view,
                [lesion.structure, source],
                usubjid,
                TULNKID=link,
                TUTESTCD="TUMIDENT" if not wholes else "TUMERGE" if "/" in link else "TUSPLIT",
                TUORRES=found_as,
                TUSTRESC=role,
                TULOC=lesion.location,
                TUNODAL="Y" if lesion.nodal else None,
                TUEVAL="INVESTIGATOR" if evaluator is None else evaluator[0],
                TUEVALID=None if evaluator is None else evaluator[1],
                TUDTC=None if observed is None else observed[0],
            )


def _by_name(evaluator: _Evaluator | None) -> tuple[str, str]:
    return ("", "") if evaluator is None else (evaluator[0], evaluator[1] or "")


def responses(context: Context) -> None:
    """Makes RS: responses as recorded, by the investigator unless the performer says otherwise."""
    for number, rows in context.by_resource("rs_disease_status"):
        usubjid = context.subject(number)
        if usubjid is None:
            continue
        row = rows[0]
        written = texts(row, "response") or first(row, "response_string")
        if written is None:
            context.quarantine(number, "no-value", "$.value", "a response without a value")
            continue
        date, encounters = _when(context, row)
        if date is None:
            context.quarantine(number, "no-date", "$.effective", "a response without a date")
            continue
        text = first(row, "response_text", "response_string")
        match = context.terminology.translate("response", codings(row, "response"), text)
        if match is not None and match.target is None:
            context.finding(
                "ambiguous-code", "a trend or a part of a response, which is not one response", number
            )
        if match is not None and match.lossy:
            context.finding("lossy-code", "a clinical trend was taken for a response", number)
        point = _components(context, rows).get("TIME-POINT")
        label = None if point is None else first(point, "component_string")
        source = None
        if label is None:
            label, source = encounter_label(context, *encounters)
        evaluator, reader = _evaluator(context, row)
        context.emit(
            "RS",
            row.view,
            [number, source],
            usubjid,
            RSTESTCD="OVRLRESP",
            RSCAT=context.target("response-criteria", row, "method") or texts(row, "method"),
            RSORRES=written,
            RSSTRESC=None if match is None else match.target,
            RSEVAL=evaluator,
            RSEVALID=reader,
            VISIT=label,
            RSDTC=date,
        )
