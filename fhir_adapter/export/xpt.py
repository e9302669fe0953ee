"""SAS transport files, version 5, through ReadStat (pyreadstat).

Sources: SAS technical paper TS-140, "Record Layout of a SAS Version 5 or 6 Data Set in SAS Transport (Xport) Format";
SDTM Implementation Guide 3.4, 4.5.3 (text of more than 200 characters) and 8.4 (supplemental qualifiers). The format
has names of 8 characters, labels of 40 bytes and text of 200 bytes, and no zero-length text. What does not fit is
neither cut nor dropped without a word: it goes where the guide puts it, and a `Note` counts it.
"""

from __future__ import annotations

import datetime as dt
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyreadstat

from fhir_adapter.datasets import Dataset, Variable
from fhir_adapter.errors import UsageError
from fhir_adapter.export.tables import Note, Table

__all__ = ["Transport", "encode_xpt", "split_text", "transport", "transport_names"]

_NAME, _LABEL, _TEXT = 8, 40, 200
_CARD = 80
_EPOCH = pd.Timestamp("1960-01-01")
_TEXTS = ("text", "datetime", "flag")
#: Magnitudes that ReadStat writes exactly as an IBM double: 16**-65 and, below its limit of 16**63, 16**62.
_SMALLEST, _LARGEST = 16.0**-65, 16.0**62
_LARGEST_INTEGER = 2**53
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
#: Offsets of the four time stamps in the header records (TS-140: library made and changed, member made and changed).
_STAMPS = (144, 160, 464, 480)
_STAMP = re.compile(rb"\d\d[A-Z]{3}\d\d:\d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Transport:
    """A dataset as a transport file holds it.

    Attributes:
        tables: the dataset itself, and for an SDTM domain with long text its SUPP-- dataset.
        notes: what the file says otherwise than the run folder.
        names: name in the file → name in the run folder, of the variables that were renamed.
    """

    tables: list[Table]
    notes: list[Note]
    names: dict[str, str]


def split_text(text: str, size: int = _TEXT) -> list[str]:
    """Pieces of at most `size` bytes (UTF-8) that give the text again when they are put together.

    A piece ends before a blank where there is one (SDTMIG 4.5.3.2 splits between words), never within a character;
    the blank begins the next piece, for blanks at the end of a text are not kept by the format.

    Args:
        text: any text.
        size: bytes of a piece, at least 4.
    """
    raw = text.encode()
    pieces = []
    while len(raw) > size:
        end = size
        while raw[end] & 0xC0 == 0x80:  # the middle of a character
            end -= 1
        blank = raw.rfind(b" ", 1, end + 1)
        if blank > 0 and raw[:blank].rstrip(b" ") == raw[:blank]:
            end = blank
        elif raw[:end].endswith(b" "):
            kept = raw[:end].rstrip(b" ")
            end = len(kept) or end
        pieces.append(raw[:end].decode())
        raw = raw[end:]
    return [*pieces, raw.decode()]


def transport(table: Table) -> Transport:
    """Brings a dataset into what version 5 can hold.

    - Text of more than 200 bytes: the first piece stays, the others go into SUPP-- (QNAM is the name with 1, 2 …) of an
      SDTM domain, or into further variables of the same names after the first in an ADaM dataset.
    - A name of more than 8 characters, which only a study file can give, gets its first 8, or 7 and a digit.
    - Text outside ASCII stays, as UTF-8. A NUL, which would end the text, becomes U+FFFD.

    Raises:
        UsageError: a number that an IBM double cannot hold.
    """
    names = transport_names([variable.name for variable in table.dataset.variables])
    variables: list[Variable] = []
    columns: dict[str, pd.Series[Any]] = {}
    notes: list[Note] = []
    supplement: list[dict[str, Any]] = []
    for variable in table.dataset.variables:
        about = _About(table.dataset.name, variable.name, notes)
        column = table.frame[variable.name].reset_index(drop=True)
        short = msgspec.structs.replace(
            variable, name=names[variable.name], label=_label(variable.label, about)
        )
        if short.name != variable.name:
            about.add("renamed", f"the variable {variable.name} is {short.name}, for names have 8 characters")
        if variable.type not in _TEXTS:
            variables.append(short)
            columns[short.name] = _numbers(column, variable, about)
            continue
        pieces = _texts(column, about).map(split_text)
        variables.append(short)
        columns[short.name] = pieces.str[0]
        number = int((pieces.str.len() > 1).sum())
        if not number:
            continue
        taken = {*names.values(), *columns}
        rest = [_continued(short, place, taken) for place in range(1, int(pieces.str.len().max()))]
        if table.dataset.model == "SDTM":
            where = f"SUPP{table.dataset.name}"
            supplement += _supplement(table, pieces, rest)
        else:
            where = "the variables after it"
            variables += rest
            columns |= {one.name: pieces.str[place].fillna("") for place, one in enumerate(rest, start=1)}
        listed = ", ".join(one.name for one in rest)
        about.add(
            "long-text", f"{number} values have more than 200 bytes and go on in {where} ({listed})", number
        )
    frame = pd.DataFrame(columns, index=range(len(table.frame)))
    tables = [Table(msgspec.structs.replace(table.dataset, variables=tuple(variables)), frame)]
    if supplement:
        tables.append(_supp(table.dataset, supplement))
    renamed = {short: long for long, short in names.items() if short != long}
    return Transport(tables, notes, renamed)


def encode_xpt(table: Table, *, created: dt.datetime) -> bytes:
    """The transport file of a table that `transport` made.

    Args:
        table: at most 200 bytes of text, 40 of label, 8 of name.
        created: the time of the run, for the header: the clock has no part in a file.
    """
    dates = {variable.name: "DATE9." for variable in table.dataset.variables if variable.type == "date"}
    with tempfile.TemporaryDirectory() as folder:  # 0700, as all that may hold patient data
        path = Path(folder) / "member.xpt"
        pyreadstat.write_xport(
            _longer_than_a_card(table),
            path,
            file_label=table.dataset.label,
            column_labels={variable.name: variable.label for variable in table.dataset.variables},
            table_name=table.dataset.name,
            file_format_version=5,
            variable_format=dates,
        )
        content = bytearray(path.read_bytes())
    when = created.astimezone(dt.UTC)
    stamp = f"{when:%d}{_MONTHS[when.month - 1]}{when:%y:%H:%M:%S}".encode()
    for offset in _STAMPS:
        found = bytes(content[offset : offset + 16])
        if not _STAMP.fullmatch(found):  # pragma: no cover - the layout is fixed by TS-140
            raise ValueError("no time stamp where TS-140 has one")
        content[offset : offset + 16] = stamp
    return bytes(content)


def _longer_than_a_card(table: Table) -> pd.DataFrame:
    """The frame with a record length above 80 bytes, by blanks at the end of one text.

    A file ends on a card of 80 bytes, filled with blanks (TS-140). Readers take those for records, or records for
    those, where a record is shorter than a card (pandas' `read_sas` does); ReadStat makes a text variable as wide as
    its longest value, blanks included.
    """
    texts = [variable.name for variable in table.dataset.variables if variable.type in _TEXTS]
    widths = {name: max((len(text.encode()) for text in table.frame[name]), default=0) for name in texts}
    length = 8 * (len(table.dataset.variables) - len(texts)) + sum(max(1, width) for width in widths.values())
    lacking = _CARD + 1 - length
    narrow = next((name for name in texts if widths[name] + lacking <= _TEXT), None)
    if table.frame.empty or lacking <= 0 or narrow is None:
        return table.frame
    frame = table.frame.copy()
    first = frame[narrow].iloc[0]
    blanks = max(1, widths[narrow]) + lacking - len(first.encode())
    frame[narrow] = [first + " " * blanks, *frame[narrow].iloc[1:]]
    return frame


@dataclass(frozen=True)
class _About:
    """Collects the notes on one variable."""

    dataset: str
    variable: str
    notes: list[Note]

    def add(self, code: str, text: str, number: int = 0) -> None:
        self.notes.append(Note(code, text, self.dataset, self.variable, number, "xpt"))


def transport_names(names: Sequence[str]) -> dict[str, str]:
    """Name → name of at most 8 characters, none twice; names that fit stay."""
    short = {name: name for name in names if len(name) <= _NAME}
    taken = set(short)
    for name in names:
        if name not in short:
            short[name] = next(one for one in _candidates(name) if one not in taken)
            taken.add(short[name])
    return short


def _candidates(name: str) -> Iterator[str]:
    yield name[:_NAME]
    for number in range(1, 10**6):
        yield f"{name[: _NAME - len(str(number))]}{number}"


def _continued(variable: Variable, place: int, taken: set[str]) -> Variable:
    """The variable that holds piece `place` (from 1) of a long text."""
    wanted = f"{variable.name[: _NAME - len(str(place))]}{place}"
    name = next(one for one in (wanted, *_candidates(variable.name)) if one not in taken)
    taken.add(name)
    end = f" ({place})"
    return Variable(name, _cut(variable.label, _LABEL - len(end)) + end, "text", _TEXT)


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


def _label(label: str, about: _About) -> str:
    short = _cut(label, _LABEL)
    if short != label:
        about.add("label-shortened", "the label has more than 40 bytes; the definition page has all of it")
    return short


def _numbers(column: pd.Series[Any], variable: Variable, about: _About) -> pd.Series[Any]:
    """SAS numbers: days since 1960 for dates, NaN for what is missing."""
    where = f"{about.dataset}.{about.variable}"
    if variable.type == "date":
        # Seconds, since 292 years in nanoseconds are more than 64 bits hold.
        days = pd.to_datetime(column).astype("datetime64[s]") - _EPOCH.as_unit("s")
        return days.dt.days.astype("float64")
    remedy = "Export it as dataset-json or parquet."
    if variable.type == "integer" and (column.dropna().abs() > _LARGEST_INTEGER).any():
        raise UsageError(
            "an integer beyond 2**53 has no exact place in a transport file", where=where, remedy=remedy
        )
    values = column.astype("float64")
    size = values.abs()
    if (size.ge(_LARGEST) | (size.lt(_SMALLEST) & size.gt(0))).any():
        raise UsageError("a number is beyond what a transport file holds", where=where, remedy=remedy)
    return values + 0.0  # -0.0 would be read as a missing value by some


def _texts(column: pd.Series[Any], about: _About) -> pd.Series[Any]:
    """Text without None and NUL, with notes on what a reader will see otherwise."""
    present = column.notna()
    texts: pd.Series[Any] = column.astype("object").where(present, "").map(str)
    blank = int((present & texts.map(lambda text: not text or _ends_blank(text))).sum())
    if blank:
        about.add(
            "blank", f"{blank} values are empty or end in blanks, which the format does not keep", blank
        )
    nul = int(texts.str.contains("\0", regex=False).sum())
    if nul:
        about.add("nul", f"{nul} values have a NUL, which would end the text; U+FFFD stands for it", nul)
        texts = texts.map(lambda text: text.replace("\0", "\ufffd"))
    other = int(texts.map(lambda text: not text.isascii()).sum())
    if other:
        about.add("not-ascii", f"{other} values have characters outside ASCII, written as UTF-8", other)
    return texts


def _ends_blank(text: str) -> bool:
    return any(piece.endswith(" ") for piece in split_text(text))


def _supplement(table: Table, pieces: pd.Series[Any], rest: list[Variable]) -> Iterator[dict[str, Any]]:
    """Rows of SUPP--: one per further piece (SDTMIG 8.4.1)."""
    seq = f"{table.dataset.name}SEQ"
    for row, parts in zip(table.frame.to_dict("records"), pieces, strict=True):
        for variable, part in zip(rest, parts[1:], strict=False):
            yield {
                "STUDYID": row["STUDYID"],
                "RDOMAIN": table.dataset.name,
                "USUBJID": row["USUBJID"],
                "IDVAR": seq,
                "IDVARVAL": str(row[seq]),
                "QNAM": variable.name,
                "QLABEL": variable.label,
                "QVAL": part,
                "QORIG": "Collected",
                "QEVAL": "",
            }


_SUPP = (
    ("STUDYID", "Study Identifier"),
    ("RDOMAIN", "Related Domain Abbreviation"),
    ("USUBJID", "Unique Subject Identifier"),
    ("IDVAR", "Identifying Variable"),
    ("IDVARVAL", "Identifying Variable Value"),
    ("QNAM", "Qualifier Variable Name"),
    ("QLABEL", "Qualifier Variable Label"),
    ("QVAL", "Data Value"),
    ("QORIG", "Origin"),
    ("QEVAL", "Evaluator"),
)


def _supp(parent: Dataset, rows: list[dict[str, Any]]) -> Table:
    keys = ("STUDYID", "RDOMAIN", "USUBJID", "IDVAR", "IDVARVAL", "QNAM")
    dataset = Dataset(
        name=f"SUPP{parent.name}",
        label=f"Supplemental Qualifiers for {parent.name}",
        model="SDTM",
        keys=keys,
        variables=tuple(Variable(name, label, "text", _TEXT) for name, label in _SUPP),
    )
    frame = pd.DataFrame(rows, columns=[name for name, _ in _SUPP], dtype="object").fillna("")
    # The order of the parent's rows, which are sorted, and of the pieces: QNAM sorts SRCREF10 before SRCREF2.
    return Table(dataset, frame)
