"""The folder of an export: what may stand in it, and what is said of texts that are longer than planned."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from fhir_adapter.datasets import conform
from fhir_adapter.errors import UsageError
from fhir_adapter.export import Exported, Note, export_datasets
from fhir_adapter.study import Study

STUDY = Study.model_validate(
    {
        "study": {
            "id": "example",
            "title": "An example",
            "data_cutoff": "2022-07-31",
            "consent": {"policy": "required"},
        },
        "cohort": {"candidates": {"all_patients": True}},
        "treatment": {"drugs": [{"id": "a", "label": "A", "concept": "A"}]},
    }
)


def _export(out: Path, sex: str = "F", **arguments: Any) -> Exported:
    frames = {"DM": conform("DM", [{"STUDYID": "example", "USUBJID": "S-01", "DMSEQ": 1, "SEX": sex}])}
    given: dict[str, Any] = {
        "formats": ["xpt"],
        "run": "1",
        "started": dt.datetime(2026, 11, 2, tzinfo=dt.UTC),
    }
    return export_datasets(frames, STUDY, **{**given, **arguments}, out=out)


def test_text_that_is_longer_than_planned_is_written_whole_and_counted(tmp_path: Path) -> None:
    """The note names variable and number, stands in the list and on the page, and quotes nothing."""
    exported = _export(tmp_path / "out", "UNDIFFERENTIATED", formats=["dataset-json"])
    text = "1 values have more than the 1 characters planned, up to 16"
    assert [Note("longer-than-planned", text, "DM", "SEX", 1)] == exported.notes
    assert f"<code>DM.SEX</code>: {text}." in (tmp_path / "out" / "define.html").read_text("utf-8")
    document = json.loads((tmp_path / "out" / "sdtm" / "dm.json").read_text("utf-8"))
    place = [column["name"] for column in document["columns"]].index("SEX")
    assert ("UNDIFFERENTIATED", 16) == (document["rows"][0][place], document["columns"][place]["length"])


def test_an_export_again_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    """A SUPP-- file that is no longer needed goes, the formats of before are brought up to date."""
    _export(tmp_path / "out", "F" * 300)
    assert (tmp_path / "out" / "sdtm" / "suppdm.xpt").exists()
    exported = _export(tmp_path / "out", formats=["ndjson"])
    assert ["sdtm/dm.xpt", "sdtm/dm.ndjson"] == [item["path"] for item in exported.files]
    assert ["dm.ndjson", "dm.xpt"] == sorted(path.name for path in (tmp_path / "out" / "sdtm").iterdir())


@pytest.mark.parametrize(
    "listed",
    [
        "",
        "[]",
        '{"run": "1"}',
        '{"run": "2", "formats": [], "files": []}',
        '{"run": "1", "formats": [], "files": [{"path": "../mine.txt"}]}',
        '{"run": "1", "formats": [], "files": [{"path": "sdtm/../../mine.xpt"}]}',
    ],
)
def test_a_list_that_is_not_ours_removes_nothing(tmp_path: Path, listed: str) -> None:
    """A list that was changed, or of another run, is no leave to write or to remove."""
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "export.json").write_text(listed)
    with pytest.raises(UsageError, match="holds no export of this run"):
        _export(tmp_path / "out")
    assert ["mine.txt", "out"] == sorted(path.name for path in tmp_path.iterdir())
    assert ["export.json"] == [path.name for path in (tmp_path / "out").iterdir()]


@pytest.mark.parametrize("formats", [[], ["xpt", "sas7bdat"]])
def test_an_unknown_format_is_refused(tmp_path: Path, formats: list[str]) -> None:
    """The message names the formats that there are, and nothing is written."""
    with pytest.raises(UsageError, match="There are xpt, dataset-json, ndjson, parquet"):
        _export(tmp_path / "out", formats=formats)
    assert not (tmp_path / "out").exists()
