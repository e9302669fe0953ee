"""Comparison of dates, dateTimes, instants and times by their precision (FHIRPath 2.0, 'Equals' and 'Comparison')."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from itertools import zip_longest

__all__ = ["compare", "is_temporal"]

_DATETIME = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d))?)?"
    r"(?:T(?:(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?"
)
_TIME = re.compile(r"T?(?P<hour>\d\d)(?::(?P<minute>\d\d)(?::(?P<second>\d\d(?:\.\d+)?))?)?")


def is_temporal(text: str, kind: str | None) -> bool:
    """Whether a text is a date, dateTime or instant, or with the kind `time` a time."""
    return (_TIME if kind == "time" else _DATETIME).fullmatch(text) is not None


def _parts(match: re.Match[str]) -> list[int | Decimal]:
    """Year to second as far as they are told; seconds and their fraction are one precision."""
    told = [match.groupdict().get(name) for name in ("year", "month", "day", "hour", "minute")]
    found: list[int | Decimal] = [int(part) for part in told if part is not None]
    return [*found, Decimal(match["second"])] if match["second"] is not None else found


def _shifted(parts: list[int | Decimal], zone: str) -> list[int | Decimal]:
    """The same moment in UTC, as precise as it was told."""
    if zone == "Z" or len(parts) < 4:
        return parts
    offset = (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 60 + int(zone[4:6]))
    year, month, day, hour, minute = (*(int(part) for part in parts[:5]), 0)[:5]
    moved = dt.datetime(year, month, day, hour, minute) - dt.timedelta(minutes=offset)  # noqa: DTZ001 - it is UTC
    whole = [moved.year, moved.month, moved.day, moved.hour, moved.minute]
    return [*whole[: len(parts)], *parts[5:]]


def compare(one: str, two: str, kind: str | None) -> int | None:
    """Compares two moments component by component, from the year to the second.

    Args:
        one: a date, dateTime, instant or time as FHIR writes it.
        two: another.
        kind: `time` for times, else dates and moments.

    Returns:
        -1, 0 or 1; None if their precision does not tell: one ends where the other goes on, or only one of two with a
        time says its offset.

    Raises:
        ValueError: a text is none, or a day that the calendar does not have.
    """
    pattern = _TIME if kind == "time" else _DATETIME
    first, second = pattern.fullmatch(one), pattern.fullmatch(two)
    if first is None or second is None:
        raise ValueError
    left, right = _parts(first), _parts(second)
    if kind != "time" and len(left) > 3 and len(right) > 3:
        zones = first["zone"], second["zone"]
        if zones[0] is not None and zones[1] is not None:
            left, right = _shifted(left, zones[0]), _shifted(right, zones[1])
        elif zones[0] != zones[1]:
            # Offsets differ by less than a day and two hours: days far apart are ordered without them.
            days = [dt.date(*(int(part) for part in parts[:3])) for parts in (left, right)]
            apart = (days[0] - days[1]).days
            return (1 if apart > 0 else -1) if abs(apart) > 2 else None
    for mine, other in zip_longest(left, right):
        if mine is None or other is None:
            return None
        if mine != other:
            return -1 if mine < other else 1
    return 0
