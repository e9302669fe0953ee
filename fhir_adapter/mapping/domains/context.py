"""What the domains share: the resources of a partition, the tables of the views, and what came of them.

A domain reads tables, translates codes, joins, and emits rows; it says of a resource that it was used,
dismissed or quarantined. It never decodes a resource, but for a contained one.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Any, Protocol

import msgspec

from fhir_adapter.accounting import Disposition, Finding
from fhir_adapter.mapping.references import contained, key_of
from fhir_adapter.mapping.terminology import Coding, Match, Terminology
from fhir_adapter.study import Study
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["Context", "RawResource", "Row", "codings", "first", "in_mm", "texts"]

#: ISO 8601 as FHIR writes dates: year, year and month, day, or day and time.
_DATE = re.compile(r"^(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?(?:T|$)")

#: Variable that dates the rows of a dataset; rows dated after the cut-off do not count.
_DATED = {
    "TR": "TRDTC", "RS": "RSDTC", "EX": "EXSTDTC", "CM": "CMSTDTC", "AE": "AESTDTC", "PR": "PRSTDTC",
    "SV": "SVSTDTC", "SC": "SCDTC", "MH": "MHSTDTC", "DS": "DSSTDTC",
}  # fmt: skip


class RawResource(Protocol):
    """A landed resource; `unreadable` may be missing and is then false."""

    @property
    def type(self) -> str:
        """Resource type."""

    @property
    def id(self) -> str:
        """Logical id."""

    @property
    def version(self) -> str:
        """Version, or an empty string."""

    @property
    def sequence(self) -> int:
        """Number in the landing."""

    @property
    def subject(self) -> str | None:
        """`Patient/id`, or None."""

    @property
    def body(self) -> bytes:
        """The resource as it came, UTF-8 JSON."""


class Row(dict[str, Any]):
    """One row of a view: column → value, with the view's name and the resource it came from."""

    __slots__ = ("resource", "view")
    view: str
    resource: int


def codings(row: Mapping[str, Any], name: str) -> list[Coding]:
    """The codings of a coded element: the columns `name_system`, `name_code`, `name_display`.

    Each is a collection of its own, so a coding without a system leaves the three unequal in length; then
    each code is offered with each system, and only a pair that a map knows will be found.
    """
    systems = _list(row.get(f"{name}_system"))
    codes = _list(row.get(f"{name}_code"))
    displays = _list(row.get(f"{name}_display"))
    if not codes:
        return [(None, None, display) for display in displays]
    if len(systems) == len(codes):
        shown = displays if len(displays) == len(codes) else [*displays, *([None] * len(codes))]
        return list(zip(systems, codes, shown, strict=False))
    shown = displays[:1] or [None]
    pairs = [(system, code, shown[0]) for code in codes for system in systems]
    return pairs or [(None, code, shown[0]) for code in codes]


def texts(row: Mapping[str, Any], name: str) -> str | None:
    """The wording of a coded element: its text, else the first display, else the first code."""
    for column in (f"{name}_text", f"{name}_display", f"{name}_code"):
        values = _list(row.get(column))
        if values:
            return str(values[0])
    return None


def first(row: Mapping[str, Any], *names: str) -> Any:
    """The first of some columns that has a value; the first item of a collection."""
    for name in names:
        value = row.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        if value is not None:
            return value
    return None


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def in_mm(value: Any, unit: str) -> Decimal:
    """A length in mm, to 0.001 mm, from UCUM mm or cm.

    Raises:
        ValueError: another unit, or a value that is no length.
    """
    factor = {"mm": Decimal(1), "cm": Decimal(10)}.get(unit)
    if factor is None:
        raise ValueError("unit")
    try:
        number = Decimal(str(value)) * factor
        if not number.is_finite() or number < 0:
            raise ValueError("value")
        return number.quantize(Decimal("0.001"))
    except InvalidOperation:
        raise ValueError("value") from None


class _Named(msgspec.Struct):
    id: str | None = None


class _Holder(msgspec.Struct):
    contained: list[_Named] = []


@dataclass
class Context:
    """A partition at work. See the module's docstring."""

    study: Study
    terminology: Terminology
    resources: Sequence[RawResource]
    keys: Sequence[str]
    subjects: Sequence[str | None]
    tables: Mapping[str, list[Row]]
    usubjid: dict[str, str] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    said: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    labels: dict[int, str] = field(default_factory=dict)
    scans: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    scan_days: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    medications: dict[int, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.index = {key: number for number, key in enumerate(self.keys)}
        self.by_id = {resource.id: number for number, resource in enumerate(self.resources)}

    def table(self, view: str) -> list[Row]:
        """Rows of a view whose resource was not quarantined."""
        return [row for row in self.tables.get(view, []) if row.resource not in self.said]

    def by_resource(self, view: str) -> Iterator[tuple[int, list[Row]]]:
        """Rows of a view, resource by resource."""
        for number, rows in groupby(self.table(view), key=lambda row: row.resource):
            yield number, list(rows)

    def subject(self, number: int) -> str | None:
        """USUBJID of the subject of a resource, None for a patient who is not in the study."""
        key = self.subjects[number]
        return None if key is None else self.usubjid.get(key)

    def resolve(self, reference: str | None) -> int | None:
        """The resource that a reference points to, if it landed."""
        key = key_of(reference)
        if key is None:
            return None
        if key.startswith("/"):
            return self.by_id.get(key[1:])
        return self.index.get(key)

    def leads_somewhere(self, reference: str, number: int) -> bool:
        """Whether a reference of a resource leads to one that landed, or that it contains."""
        local = contained(reference)
        if local is None:
            return self.resolve(reference) is not None
        try:
            holder = msgspec.json.decode(self.resources[number].body, type=_Holder)
        except UNDECODABLE:
            return False
        return any(item.id == local for item in holder.contained)

    def is_contained(self, reference: str | None) -> str | None:
        """The local id of a contained reference."""
        return contained(reference)

    def translate(
        self, concept_map: str, row: Mapping[str, Any], name: str, *, count: bool = True
    ) -> Match | None:
        """The meaning of a coded element of a row."""
        text = first(row, f"{name}_text")
        match = self.terminology.translate(concept_map, codings(row, name), text, count=count)
        if match is not None and match.lossy and isinstance(row, Row):
            self.finding(
                "lossy-code",
                "a code says less, or something else, than the term it was mapped to",
                row.resource,
                {
                    "concept_map": concept_map,
                    "system": match.system,
                    "code": match.code,
                    "target": match.target,
                },
            )
        return match

    def target(
        self, concept_map: str, row: Mapping[str, Any], name: str, *, count: bool = True
    ) -> str | None:
        """The target code of a coded element of a row, None where there is none."""
        match = self.translate(concept_map, row, name, count=count)
        return None if match is None else match.target

    def reference(self, number: int) -> str:
        """`Type/id/_history/version` of a resource."""
        version = self.resources[number].version
        return self.keys[number] + (f"/_history/{version}" if version else "")

    def emit(
        self, domain: str, view: str, sources: Iterable[int | None], usubjid: str, **values: Any
    ) -> bool:
        """Adds a row; its sources are used by it.

        Args:
            domain: dataset.
            view: name of the view (or views, separated by a space).
            sources: resources it was made from, the main one first.
            usubjid: the subject.
            values: its variables.

        Returns:
            False for a row that is dated after the cut-off and was left out.
        """
        numbers = list(dict.fromkeys(number for number in sources if number is not None))
        date = values.get(_DATED.get(domain, ""))
        if date is not None and self._after_cutoff(date):
            self.dismiss(numbers[0], "after-cut-off")
            return False
        head = {"STUDYID": self.study.study.id, "DOMAIN": domain, "USUBJID": usubjid}
        tail = {"SRCVIEW": view, "SRCREF": " ".join(self.reference(number) for number in numbers)}
        self.rows.setdefault(domain, []).append(head | values | tail)
        self.used.update(numbers)
        return True

    def _after_cutoff(self, date: str) -> bool:
        cutoff = self.study.study.data_cutoff
        if not isinstance(cutoff, dt.date):
            return False
        found = _DATE.match(date)
        if found is None:
            return False
        day = f"{found[1]}-{found[2] or '01'}-{found[3] or '01'}"
        return day > cutoff.isoformat()

    def dismiss(self, number: int, reason: str) -> None:
        """A resource that is not needed, unless another row uses it."""
        self.said.setdefault(number, ("not-needed", reason, ""))

    def quarantine(self, number: int, reason: str, path: str, text: str) -> None:
        """A resource that cannot be used: a disposition and a finding."""
        self.said[number] = ("quarantined", reason, path)
        self.finding(reason, text, number)

    def finding(self, code: str, text: str, number: int, detail: Mapping[str, Any] | None = None) -> None:
        """Something about a resource that deserves a look."""
        encoded = msgspec.json.encode(dict(detail)).decode() if detail else ""
        self.findings.append(
            Finding(
                code=code,
                text=text,
                usubjid=self.subject(number) or "",
                resource=self.keys[number],
                detail=encoded,
            )
        )

    def disposition(self, number: int) -> Disposition:
        """What became of a resource in the end."""
        resource = self.resources[number]
        said = self.said.get(number)
        if said is not None and said[0] == "quarantined":
            outcome, reason, path = said
        elif number in self.used:
            outcome, reason, path = "used", "", ""
        else:
            outcome, reason, path = said or ("not-needed", "not-selected", "")
        return Disposition(
            type=resource.type,
            id=resource.id,
            version=resource.version,
            outcome=outcome,
            reason=reason,
            path=path,
            sequence=resource.sequence,
        )
