"""SAS transport files, version 5, read back by ReadStat (pyreadstat) and by pandas' own reader."""

from __future__ import annotations

import datetime as dt
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pyreadstat
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fhir_adapter.datasets import Variable
from fhir_adapter.errors import UsageError
from fhir_adapter.export.tables import Note, Table
from fhir_adapter.export.xpt import encode_xpt, split_text, transport

from .conftest import LONG, table

CREATED = dt.datetime(2026, 11, 2, 23, 4, 5, tzinfo=dt.UTC)


def _read(made: Table, folder: Path) -> tuple[pd.DataFrame, Any]:
    path = folder / f"{made.dataset.name.lower()}.xpt"
    path.write_bytes(encode_xpt(made, created=CREATED))
    return pyreadstat.read_xport(path, disable_datetime_conversion=True)


def test_an_adam_dataset_comes_back(adtr: Table, tmp_path: Path) -> None:
    """Days since 1960 with DATE9., numbers to the last bit, missing values, and the labels."""
    [made] = transport(adtr).tables
    frame, meta = _read(made, tmp_path)
    assert ["example"] * 3 == frame["STUDYID"].tolist()
    assert [21974.0, -1.0] == frame["ADT"].tolist()[:2]
    assert [-1.0, 1.0] == frame["ADY"].tolist()[:2]
    assert [43.125, 0.0] == frame["AVAL"].tolist()[:2]
    assert [True, True, True] == frame.loc[2, ["ADT", "ADY", "AVAL"]].isna().tolist()
    assert ["Y", "", ""] == frame["ABLFL"].tolist()
    assert ("ADTR", "Data of ADTR") == (meta.table_name, meta.file_label)
    assert "DATE9" == meta.original_variable_types["ADT"]
    assert {one.name: one.label for one in adtr.dataset.variables} == meta.column_names_to_labels
    dated, _ = pyreadstat.read_xport(tmp_path / "adtr.xpt")
    assert [dt.date(2020, 2, 29), dt.date(1959, 12, 31)] == dated["ADT"].tolist()[:2]


def test_another_reader_agrees(cm: Table, adtr: Table, tmp_path: Path) -> None:
    """Pandas reads the same rows; it shows a zero as 5.4e-79, which is a peculiarity of its reader."""
    for one in (cm, adtr):
        for made in transport(one).tables:
            ours, _ = _read(made, tmp_path)
            theirs = pd.read_sas(
                tmp_path / f"{made.dataset.name.lower()}.xpt", format="xport", encoding="utf-8"
            )
            pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, rtol=0, atol=1e-78)


def test_long_text_of_a_domain_goes_on_in_its_supplemental_qualifiers(cm: Table, tmp_path: Path) -> None:
    """Split between words; QNAM, IDVAR and IDVARVAL lead back, and the pieces give the text again."""
    made = transport(cm)
    parent, supp = made.tables
    frame, _ = _read(parent, tmp_path)
    rest, meta = _read(supp, tmp_path)
    assert ("SUPPCM", "Supplemental Qualifiers for CM") == (meta.table_name, meta.file_label)
    assert [
        {
            "STUDYID": "example",
            "RDOMAIN": "CM",
            "USUBJID": "S-02",
            "IDVAR": "CMSEQ",
            "IDVARVAL": "1",
            "QNAM": "CMTRT1",
            "QLABEL": "Medication as Recorded (1)",
            "QVAL": " Doxorubicin" * 4 + " and ifosfamide",
            "QORIG": "Collected",
            "QEVAL": "",
        }
    ] == rest.to_dict("records")
    assert LONG == frame["CMTRT"][2] + rest["QVAL"][0]
    assert "Doxorubicin" == frame["CMTRT"][2].split(" ")[-1]


def test_long_text_of_an_analysis_dataset_goes_on_in_further_variables(cm: Table, tmp_path: Path) -> None:
    """ADaM has no supplemental qualifiers: the pieces stand beside the first."""
    adam = Table(
        type(cm.dataset)("ADCM", "Medications", "ADaM", cm.dataset.keys, cm.dataset.variables), cm.frame
    )
    [made] = transport(adam).tables
    frame, meta = _read(made, tmp_path)
    assert ["CMTRT", "CMTRT1", "CMSTDTC"] == meta.column_names[3:]
    assert ["Doxorubicin", "安罗替尼", LONG] == (frame["CMTRT"] + frame["CMTRT1"]).tolist()


def test_what_the_file_says_otherwise_is_counted(cm: Table) -> None:
    """Notes name the variable and count the values; they quote none."""
    assert [
        Note(
            "not-ascii", "1 values have characters outside ASCII, written as UTF-8", "CM", "CMTRT", 1, "xpt"
        ),
        Note(
            "long-text",
            "1 values have more than 200 bytes and go on in SUPPCM (CMTRT1)",
            "CM",
            "CMTRT",
            1,
            "xpt",
        ),
    ] == transport(cm).notes


def test_names_and_labels_of_a_study_are_shortened_and_noted(tmp_path: Path) -> None:
    """Two long names stay two; a label is cut at 40 bytes, between characters."""
    variables = [
        Variable("USUBJID", "Unique Subject Identifier", "text", 64),
        Variable("HISTOLOGY_A", "组织学" * 5, "text", 200),
        Variable("HISTOLOGY_B", "B", "text", 200),
        Variable("HISTOLO1", "C", "text", 200),
    ]
    made = transport(
        table("ADSL", "ADaM", ("USUBJID",), variables, [("S-01", "a", "b", "c\0"), ("S-02", "", " ", "d")])
    )
    frame, meta = _read(made.tables[0], tmp_path)
    assert ["USUBJID", "HISTOLOG", "HISTOLO2", "HISTOLO1"] == meta.column_names
    assert {"HISTOLOG": "HISTOLOGY_A", "HISTOLO2": "HISTOLOGY_B"} == made.names
    assert "组织学" * 4 + "组" == meta.column_names_to_labels["HISTOLOG"]
    assert ["c\ufffd", "d"] == frame["HISTOLO1"].tolist()
    codes = [(note.variable, note.code, note.number) for note in made.notes]
    assert [
        ("HISTOLOGY_A", "label-shortened", 0),
        ("HISTOLOGY_A", "renamed", 0),
        ("HISTOLOGY_A", "blank", 1),
        ("HISTOLOGY_B", "renamed", 0),
        ("HISTOLOGY_B", "blank", 1),
        ("HISTOLO1", "nul", 1),
        ("HISTOLO1", "not-ascii", 1),
    ] == codes


@pytest.mark.parametrize("number", [1e75, -1e75, 1e-80, math.inf])
def test_a_number_that_does_not_fit_is_refused(adtr: Table, number: float) -> None:
    """An IBM double ends at 7e75 and begins at 5e-79; the message names the variable and no value."""
    frame = adtr.frame.assign(AVAL=[number, 1.0, None])
    with pytest.raises(
        UsageError, match=r"^ADTR\.AVAL: a number is beyond what a transport file holds\. Export"
    ):
        transport(Table(adtr.dataset, frame))


def test_an_integer_that_does_not_fit_is_refused(adtr: Table) -> None:
    """SAS numbers are doubles: beyond 2**53 integers are not exact."""
    frame = adtr.frame.assign(ADY=pd.array([2**53 + 1, 1, None], dtype="Int64"))
    with pytest.raises(UsageError, match=r"ADTR\.ADY: an integer beyond"):
        transport(Table(adtr.dataset, frame))


def test_a_dataset_without_rows_keeps_its_variables(adtr: Table, tmp_path: Path) -> None:
    """Names, labels and types of a dataset that nobody is in."""
    [made] = transport(Table(adtr.dataset, adtr.frame.iloc[:0])).tables
    frame, meta = _read(made, tmp_path)
    assert (0, [one.name for one in adtr.dataset.variables]) == (len(frame), meta.column_names)
    assert {"string": 3, "double": 3} == pd.Series(meta.readstat_variable_types).value_counts().to_dict()


def test_the_time_in_the_file_is_that_of_the_run(adtr: Table) -> None:
    """Four stamps of the header, as TS-140 has them, and no clock: the same run gives the same bytes."""
    [made] = transport(adtr).tables
    content = encode_xpt(made, created=CREATED)
    assert 4 == content.count(b"02NOV26:23:04:05")
    elsewhere = CREATED.astimezone(dt.timezone(dt.timedelta(hours=8)))
    assert content == encode_xpt(made, created=elsewhere)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [""]),
        ("a" * 200, ["a" * 200]),
        ("a" * 201, ["a" * 200, "a"]),
        ("安" * 67, ["安" * 66, "安"]),
        ("a" * 199 + " b", ["a" * 199, " b"]),
        ("a" * 198 + "  b", ["a" * 198, "  b"]),
        ("a" * 100 + " " + "b" * 150, ["a" * 100, " " + "b" * 150]),
        (" " * 201, [" " * 200, " "]),
    ],
    ids=[
        "empty",
        "200",
        "201",
        "characters of 3 bytes",
        "blank",
        "two blanks",
        "between words",
        "blanks alone",
    ],
)
def test_long_text_is_split_between_words(text: str, pieces: list[str]) -> None:
    """At most 200 bytes each, and together the text."""
    assert pieces == split_text(text)


_TEXT = st.text(st.characters(codec="utf-8"), max_size=90)
_NUMBER = st.one_of(
    st.just(0.0),
    st.floats(min_value=1e-70, max_value=1e70),
    st.floats(min_value=-1e70, max_value=-1e-70),
    st.none(),
)
_ROW = st.tuples(
    st.text("ABC-123", min_size=1, max_size=12),
    st.one_of(st.none(), _TEXT, _TEXT.map(lambda text: text * 7)),
    _NUMBER,
    st.one_of(st.none(), st.integers(-(2**53), 2**53)),
    st.one_of(st.none(), st.dates(dt.date(1700, 1, 1), dt.date(2260, 1, 1))),
)
_VARIABLES = [
    Variable("USUBJID", "Unique Subject Identifier", "text", 64),
    Variable("LONGTEXT", "Text", "text", 200),
    Variable("AVAL", "Number", "float", 8),
    Variable("ADY", "Integer", "integer", 8),
    Variable("ADT", "Date", "date", 10),
]


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(_ROW, min_size=1, max_size=6))
@example(
    rows=[("1", None, 0.0, None, dt.date(2253, 1, 1))]
)  # 293 years after 1960: more nanoseconds than fit
def test_any_rows_come_back(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever text, numbers and dates: the file gives them again, but for NUL and blanks at the end."""
    [made] = transport(table("ADX", "ADaM", ("USUBJID",), _VARIABLES, rows)).tables
    folder = tmp_path_factory.mktemp("xpt")
    frame, meta = _read(made, folder)
    pieces = meta.column_names[1 : 1 + len(meta.column_names) - 4]
    joined = ["".join(str(row[name]) for name in pieces).rstrip(" ") for row in frame.to_dict("records")]
    assert [(row[1] or "").replace("\0", "\ufffd").rstrip(" ") for row in rows] == joined
    assert [row[0] for row in rows] == frame["USUBJID"].tolist()
    for place, name in ((2, "AVAL"), (3, "ADY")):
        assert [row[place] for row in rows] == [None if math.isnan(one) else one for one in frame[name]]
    days = [None if row[4] is None else (row[4] - dt.date(1960, 1, 1)).days for row in rows]
    assert days == [None if math.isnan(one) else one for one in frame["ADT"]]
