"""lowBoundary() and highBoundary() of decimals, dates, dateTimes and times (FHIRPath 2.0, 'Boundaries')."""

from __future__ import annotations

import calendar
import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

__all__ = ["boundary"]

_DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?$")
_DATETIME = re.compile(
    r"(?P<date>\d{4}(?:-\d\d(?:-\d\d)?)?)(?:T(?P<time>\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?)?$"
)


def _date(text: str, high: bool) -> str | None:
    match = _DATE.match(text)
    if match is None:
        return None
    year, month, day = match.groups()
    month = month or ("12" if high else "01")
    if not 1 <= int(month) <= 12:
        return None
    day = day or (f"{calendar.monthrange(int(year), int(month))[1]:02d}" if high else "01")
    return f"{year}-{month}-{day}"


def _time(text: str, high: bool) -> str:
    whole, _, fraction = text.partition(".")
    parts = whole.split(":")
    parts += ["59" if high else "00"] * (3 - len(parts))
    return ":".join(parts) + "." + (fraction or "").ljust(3, "9" if high else "0")[:3]


def boundary(value: object, type_: str | None, *, high: bool) -> object | None:
    """The lowest or highest value that a value of this precision may stand for.

    Args:
        value: a decimal (the digits as written) or the text of a date, dateTime, instant or time.
        type_: FHIR primitive type of the value.
        high: the highest instead of the lowest.

    Returns:
        The boundary, or None for a value that has none.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, Decimal)):
        number = Decimal(value)
        _, digits, exponent = number.as_tuple()
        half = Decimal((0, (5,), (exponent if isinstance(exponent, int) else 0) - 1))
        exact = Context(prec=len(digits) + 2, Emin=MIN_EMIN, Emax=MAX_EMAX)
        return exact.add(number, half) if high else exact.subtract(number, half)
    if not isinstance(value, str):
        return None
    if type_ == "date":
        return _date(value, high)
    if type_ == "time":
        return _time(value, high)
    match = _DATETIME.match(value)
    if match is None:
        return None
    date = _date(match["date"], high)
    time = _time(match["time"] or ("23" if high else "00"), high)
    return None if date is None else f"{date}T{time}{match['zone'] or ('-12:00' if high else '+14:00')}"
