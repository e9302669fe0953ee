"""Reads the columns of the frames that statisticians pass in: dates, codes, flags; nothing is guessed.

Every reader works on the distinct values of a column and spreads the result over the rows, so that text is
parsed once per value and not once per row.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = [
    "NO_DAY",
    "calendar_days",
    "codes_of",
    "days_to_dates",
    "flags",
    "require_columns",
    "spread",
    "text_of",
]

Ints = npt.NDArray[np.int64]

NO_DAY: Final[int] = int(np.iinfo(np.int64).min)
"""The day number of a missing date (NumPy's NaT)."""

_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}(T.*)?", re.ASCII)


def require_columns(frame: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    """Raises ValueError if one of `columns` is not in `frame`, which the message calls `name`."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"{name} has no column {', '.join(missing)}")


def spread(column: pd.Series[Any], read: Callable[[Any], int], missing: int) -> Ints:
    """Reads each distinct value of `column` once.

    Args:
        column: any column.
        read: the integer of a value that is not missing.
        missing: the integer of a missing value.

    Returns:
        One integer per row.
    """
    row_codes, distinct = pd.factorize(column)
    table = np.fromiter((read(value) for value in distinct), dtype=np.int64, count=len(distinct))
    return np.append(table, missing)[row_codes]


def text_of(value: object) -> str:
    """The value as text in capitals, without surrounding or repeated blanks."""
    return " ".join(str(value).split()).upper()


def codes_of(column: pd.Series[Any], table: Mapping[str, int], missing: int, name: str) -> Ints:
    """The code of each text of a column.

    Args:
        column: text; capitals and blanks around it do not matter.
        table: the code of each text that is allowed.
        missing: the code of a missing value or an empty text.
        name: the column's name, for the message.

    Raises:
        ValueError: a text that `table` does not have; the message names it.
    """

    def read(value: object) -> int:
        text = text_of(value)
        if not text:
            return missing
        if text not in table:
            raise ValueError(f"{name} is {value!r}; it can be {', '.join(table)}")
        return table[text]

    return spread(column, read, missing)


def flags(column: pd.Series[Any], name: str) -> Ints:
    """1 for true, 0 for false, -1 for missing. Raises ValueError for anything that is not a bool."""

    def read(value: object) -> int:
        if isinstance(value, (bool, np.bool_)) or (isinstance(value, (int, float)) and value in (0, 1)):
            return int(value)
        raise ValueError(f"{name} is {value!r}; it can be True or False")

    return spread(column, read, -1)


def calendar_days(column: pd.Series[Any], name: str) -> Ints:
    """Calendar days as written: no time of day, no shift by an offset.

    Args:
        column: datetime64 (with or without time zone), dates, or ISO texts with at least year, month and day.
        name: the column's name, for the message.

    Returns:
        Days since 1970-01-01, NO_DAY where missing.

    Raises:
        ValueError: something else, such as a partial date: dates are imputed before they come here.
    """
    dtype = column.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        column = column.dt.tz_localize(None)
    if isinstance(dtype, (np.dtype, pd.DatetimeTZDtype)) and dtype.kind == "M":
        return column.to_numpy().astype("datetime64[D]").astype(np.int64)

    def read(value: object) -> int:
        if isinstance(value, dt.date):  # datetime and pandas' Timestamp too
            return dt.date(value.year, value.month, value.day).toordinal() - _EPOCH
        if isinstance(value, np.datetime64):
            return int(value.astype("datetime64[D]").astype(np.int64))
        if isinstance(value, str):
            text = value.strip()
            if not text:
                return NO_DAY
            if _ISO_DAY.fullmatch(text):
                return dt.date.fromisoformat(text[:10]).toordinal() - _EPOCH
        raise ValueError(f"{name} holds something that is not a complete calendar date")

    return spread(column, read, NO_DAY)


_EPOCH: Final[int] = dt.date(1970, 1, 1).toordinal()


def days_to_dates(days: Ints) -> npt.NDArray[np.datetime64]:
    """The datetime64[ns] of day numbers; NaT for NO_DAY."""
    return days.astype("datetime64[D]").astype("datetime64[ns]")
