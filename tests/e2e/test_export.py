"""`fhir-adapter export`: the datasets of a run for a statistician, in files that other programs read."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pyarrow.parquet as pq
import pyreadstat
import pytest

from fhir_adapter.datasets import metadata, read_dataset

from .conftest import call, not_in_the_metadata

SCHEMA = Path(__file__).parent.parent / "data" / "export" / "dataset-json-1.1.schema.json"
FORMATS = ("xpt", "dataset-json", "ndjson", "parquet")
ENDINGS = {"xpt": "xpt", "dataset-json": "json", "ndjson": "ndjson", "parquet": "parquet"}


@pytest.fixture(scope="module")
def folder(reference_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference study in every format."""
    out = tmp_path_factory.mktemp("export") / "out"
    arguments = [part for name in FORMATS for part in ("--format", name)]
    call("export", reference_run, *arguments, "--out", out, "--quiet")
    return out


def _place(name: str) -> str:
    return f"{metadata()[name].model.lower()}/{name.lower()}"


def _listed(out: Path) -> dict[str, dict[str, Any]]:
    files = json.loads((out / "export.json").read_text("utf-8"))["files"]
    return {item["path"]: item for item in files}


def test_every_dataset_is_there_and_private(reference_run: Path, folder: Path) -> None:
    """`sdtm/` and `adam/` with a file per dataset and format, the page, and a list with digests; nothing for others."""
    listed = _listed(folder)
    expected = {f"{_place(name)}.{ending}" for name in metadata() for ending in ENDINGS.values()}
    assert expected == set(listed)
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert expected | {"define.html", "export.json"} == found
    for path, item in listed.items():
        content = (folder / path).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (item["bytes"], item["sha256"])
        assert item["records"] == len(read_dataset(reference_run / "datasets", item["dataset"]))
    modes = {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()}
    assert ({"0o600"}, "0o700") == (modes, oct(folder.stat().st_mode & 0o777))


@pytest.mark.parametrize("name", list(metadata()))
def test_all_formats_say_the_same(reference_run: Path, folder: Path, name: str) -> None:
    """What ReadStat, pandas, a JSON reader and Arrow read is what the run folder holds."""
    ours = read_dataset(reference_run / "datasets", name)
    document = json.loads((folder / f"{_place(name)}.json").read_text("utf-8"))
    jsonschema.validate(document, json.loads(SCHEMA.read_text("utf-8")))
    lines = (folder / f"{_place(name)}.ndjson").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines[1:]] == document["rows"]
    sas, meta = pyreadstat.read_xport(folder / f"{_place(name)}.xpt", disable_datetime_conversion=True)
    theirs = pd.read_sas(folder / f"{_place(name)}.xpt", format="xport", encoding="utf-8")
    pd.testing.assert_frame_equal(sas, theirs, check_dtype=False, rtol=0, atol=1e-78)
    arrow = pq.ParquetFile(folder / f"{_place(name)}.parquet").read()
    assert len(ours) == document["records"] == len(sas) == arrow.num_rows
    for place, column in enumerate(ours.columns):
        values = [row[place] for row in document["rows"]]
        label = arrow.schema.field(column).metadata[b"label"].decode()
        assert document["columns"][place]["label"] == label == meta.column_labels[place]
        plain = ours[column].dt.strftime("%Y-%m-%d") if ours[column].dtype.kind == "M" else ours[column]
        expected = [None if pd.isna(one) else one for one in plain.tolist()]
        assert expected == values
        assert expected == [
            one.isoformat() if hasattr(one, "isoformat") else one for one in arrow[column].to_pylist()
        ]
        held = sas.iloc[:, place]
        if ours[column].dtype.kind == "M":
            held = (pd.Timestamp("1960-01-01") + pd.to_timedelta(held, unit="D")).dt.strftime("%Y-%m-%d")
        assert ["" if one is None else one for one in expected] == held.where(held.notna(), "").tolist()


def test_the_same_run_gives_the_same_bytes(reference_run: Path, folder: Path, tmp_path: Path) -> None:
    """An export again, and one format after the others into one folder, are equal byte for byte."""
    out = tmp_path / "again"
    call("export", reference_run, "--format", "xpt", "--out", out, "--quiet")
    arguments = [part for name in FORMATS[1:] for part in ("--format", name)]
    call("export", reference_run, *arguments, "--out", out, "--quiet")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (out / path.relative_to(folder)).read_bytes(), path.name


def test_the_run_folder_has_the_page(reference_run: Path) -> None:
    """`define.html` stands beside the report, which names it; it has no value of a subject."""
    page = (reference_run / "define.html").read_text("utf-8")
    assert "ADaM, 65 records. Keys: STUDYID, USUBJID." in page
    assert "define.html" in (reference_run / "report.html").read_text("utf-8")
    subjects = read_dataset(reference_run / "datasets", "DM")["USUBJID"]
    assert [one for one in subjects if one in page] == []


@pytest.mark.parametrize("run", ["six_run", "reference_run"])
def test_every_value_is_as_the_metadata_plan(run: str, request: pytest.FixtureRequest) -> None:
    """Each column of each dataset is in the metadata, its text is not longer, and its codes are listed."""
    assert [] == not_in_the_metadata(request.getfixturevalue(run))


def test_the_answer_says_what_a_file_says_otherwise(six_run: Path, tmp_path: Path) -> None:
    """Without options: SAS transport files in the run folder, notes on stderr; JSON has both."""
    ended = call("export", six_run)
    assert str(six_run / "export") == ended.out.strip()
    assert (six_run / "export" / "adam" / "adsl.xpt").exists()
    assert (
        "xpt LINEAGE.PARENTSEQ: the variable PARENTSEQ is PARENTSE, for names have 8 characters" in ended.err
    )
    shutil.rmtree(six_run / "export")
    out = tmp_path / "out"
    answer = json.loads(call("export", six_run, "--format", "parquet", "--out", out, "--json", "--quiet").out)
    assert (str(out), []) == (answer["folder"], answer["notes"])
    assert {"parquet"} == {item["format"] for item in answer["files"]}


def test_a_run_that_was_not_derived_is_refused(six_run: Path, tmp_path: Path) -> None:
    """Only datasets of a derive stage that ended are exported: after a new map, derive has to run again."""
    copy = tmp_path / "copy"
    shutil.copytree(six_run, copy)
    call("map", copy, "--quiet")
    ended = call("export", copy, "--out", tmp_path / "out", status=60)
    assert "the derive stage of this run did not end. Run `derive` first." in ended.err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_left_alone(six_run: Path, folder: Path, tmp_path: Path) -> None:
    """Files of others, and exports of other runs, are not written over."""
    (tmp_path / "mine.txt").write_text("mine")
    assert "the folder is not empty" in call("export", six_run, "--out", tmp_path, status=2).err
    assert ["mine.txt"] == [path.name for path in tmp_path.iterdir()]
    assert "holds no export of this run" in call("export", six_run, "--out", folder, status=2).err
