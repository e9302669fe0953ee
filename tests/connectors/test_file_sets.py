"""A manifest beside the files of a drop folder: what it names and is not there, or counts otherwise, is seen."""

from __future__ import annotations

import gzip
import io
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Pull = Callable[..., tuple[int, str]]


def lines(type_: str, number: int, first: int = 0) -> str:
    """NDJSON of so many resources of a type."""
    return "".join(
        json.dumps({"resourceType": type_, "id": f"{type_.lower()}-{first + index}"}) + "\n"
        for index in range(number)
    )


def named(type_: str, count: Any = None, url: str = "") -> dict[str, Any]:
    """A file as a Bulk Data manifest names it."""
    item = {"type": type_, "url": url or f"https://ehr.example.org/bulk/7/{type_}.ndjson"}
    return item if count is None else item | {"count": count}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A drop folder with 4 patients and 3 conditions."""
    path = tmp_path / "drop"
    path.mkdir()
    (path / "Patient.ndjson").write_text(lines("Patient", 4))
    (path / "Condition.ndjson").write_text(lines("Condition", 3))
    return path


@pytest.fixture
def manifest(folder: Path) -> Callable[..., Path]:
    """Writes the manifest of an export into the folder."""

    def write(*output: dict[str, Any], name: str = "manifest.json", **more: Any) -> Path:
        content = {
            "transactionTime": "2026-01-02T03:04:05Z",
            "request": "https://ehr.example.org/fhir/$export",
            "requiresAccessToken": True,
            "output": list(output),
            "error": [],
            **more,
        }
        (folder / name).write_text(json.dumps(content))
        return folder / name

    return write


@pytest.fixture
def pull(operator: Any, folder: Path) -> Pull:
    """`fhir-adapter pull` of the folder."""

    def go(*options: str, **settings: Any) -> tuple[int, str]:
        ended: tuple[int, str] = operator.pull(
            "", *options, source={"kind": "files", "path": str(folder)}, **settings
        )
        return ended

    return go


def differences(operator: Any, part: str = "pull") -> list[tuple[str, int | None, int]]:
    """Differences in the manifest of the run."""
    found = operator.manifest[part]["differences"]
    assert {item["subjects"] for item in found} <= {0}
    return [(item["type"], item["expected"], item["received"]) for item in found]


@pytest.mark.parametrize("name", ["manifest.json", "2026-01-02.manifest.json", "Export.MANIFEST.json"])
def test_what_the_manifest_names_is_there(
    operator: Any, pull: Pull, manifest: Callable[..., Path], name: str
) -> None:
    """A set that is whole is pulled like any other; the manifest is no data, and no file of another kind."""
    manifest(named("Patient", 4), named("Condition", 3), name=name)
    assert pull() == (0, "")
    assert (len(operator.landed()), operator.findings, differences(operator)) == (7, set(), [])
    assert pull() == (0, "")
    assert operator.manifest["pull"]["skipped"] == 2


def test_a_file_is_not_there_yet(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path
) -> None:
    """Nothing lands of a set that is still being filled, status 22; when it is whole it lands."""
    (folder / "Condition.ndjson").rename(folder / "Condition.ndjson.part")
    manifest(named("Patient", 4), named("Condition", 3), named("Procedure"), named("Encounter", 0))
    status, said = pull()
    assert (status, "a file of Condition that a manifest names is not there" in said) == (22, True)
    assert "it says 3, 0 came; 1 more files differ" in said
    assert operator.landed() == set()
    assert differences(operator, "failed_pull") == [("Condition", 3, 0), ("Procedure", None, 0)]
    assert operator.manifest["failed_pull"]["complete"] is False
    (folder / "Condition.ndjson.part").rename(folder / "Condition.ndjson")
    (folder / "Procedure.ndjson").write_text(lines("Procedure", 1))
    assert pull() == (0, "")
    assert len(operator.landed()) == 8
    assert "failed_pull" not in operator.manifest


def test_going_on_without_a_file(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path
) -> None:
    """With `on_difference: finding` what is there lands, and what is not is said."""
    manifest(named("Patient", 4), named("Device", 2), named("Procedure"))
    assert pull(on_difference="finding") == (0, "")
    assert operator.findings == {"file-missing"}
    assert differences(operator) == [("Device", 2, 0), ("Procedure", None, 0)]
    assert len(operator.landed()) == 7


@pytest.mark.parametrize(("stated", "number"), [(5, 4), (3, 4)])
def test_a_count_that_is_not_what_came(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path, stated: int, number: int
) -> None:
    """More or fewer than the manifest counts: status 22 or a finding, at every pull, until it agrees."""
    path = manifest(named("Patient", stated), named("Condition", 3))
    for _ in range(2):  # the second time the files are done, and their numbers are remembered
        status, said = pull()
        assert (status, "a manifest's number of Patient is not what came" in said) == (22, True)
        assert f"it says {stated}, {number} came" in said
        assert path.name in said
        assert differences(operator, "failed_pull") == [("Patient", stated, number)]
    assert operator.manifest["failed_pull"]["skipped"] == 2
    assert pull(on_difference="finding") == (0, "")
    assert operator.findings == {"count-differs"}
    assert differences(operator) == [("Patient", stated, number)]
    (folder / "Patient.ndjson").write_text(lines("Patient", stated))
    assert pull() == (0, "")
    assert differences(operator) == []


def test_what_counts(operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path) -> None:
    """Resources of the type that is named; a cut line is none, a deletion is none, and no type means all."""
    (folder / "Patient.ndjson").write_text(
        lines("Patient", 4) + lines("Group", 2) + '{"resourceType":"Patient","id":"cu'
    )
    manifest(named("Patient", 5))
    assert pull()[0] == 22
    assert differences(operator, "failed_pull") == [("Patient", 5, 4)]
    untyped = {"url": "https://ehr.example.org/Patient.ndjson", "count": 7}
    manifest(named("Condition", 3), untyped)
    assert pull() == (0, "")


def test_packed_files_and_folders(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path
) -> None:
    """The name may be packed on one side; a manifest speaks of its own folder alone."""
    (folder / "Patient.ndjson").unlink()
    (folder / "Patient.ndjson.gz").write_bytes(gzip.compress(lines("Patient", 4).encode()))
    manifest(
        named("Patient", 4), named("Condition", 3, "https://ehr.example.org/Condition.ndjson.gz?part=1#x")
    )
    (folder / "deep").mkdir()
    (folder / "deep" / "Procedure.ndjson").write_text(lines("Procedure", 2))
    assert pull() == (0, "")
    (folder / "deep" / "manifest.json").write_text(json.dumps({"output": [named("Patient", 4)]}))
    assert pull()[0] == 22
    (folder / "deep" / "manifest.json").write_text(json.dumps({"output": [named("Procedure", 2)]}))
    assert pull() == (0, "")


def test_done_files_may_be_cleared_away(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path
) -> None:
    """A set that was whole once lacks nothing when its files have gone; another manifest is another set."""
    manifest(named("Patient", 4), named("Condition", 3))
    assert pull() == (0, "")
    (folder / "Patient.ndjson").unlink()
    (folder / "Condition.ndjson").unlink()
    assert pull() == (0, "")
    manifest(named("Patient", 4), named("Condition", 3), transactionTime="2026-02-02T03:04:05Z")
    assert pull()[0] == 22


def test_deleted_and_error_files(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path
) -> None:
    """Deleted files delete; an error file is a finding and no data, though it came before its manifest."""
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "timeout"}]}
    (folder / "errors.ndjson").write_text(json.dumps(outcome) + "\n")
    assert pull() == (0, "")
    assert operator.manifest["pull"]["unreadable"] == 1
    request = {"method": "DELETE", "url": "Condition/condition-1"}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": request}]}
    (folder / "gone.ndjson").write_text(json.dumps(bundle) + "\n")
    (folder / "errors-2.ndjson").write_text(json.dumps(outcome) + "\n\n")
    manifest(
        named("Patient", 4),
        deleted=[named("Bundle", 1, "https://ehr.example.org/gone.ndjson")],
        error=[
            named("OperationOutcome", 1, f"https://ehr.example.org/{name}")
            for name in ("errors.ndjson", "errors-2.ndjson")
        ],
    )
    assert pull() == (0, "")
    assert operator.findings == {"export-error"}
    assert ("Condition", "condition-1") not in operator.landed()
    assert (operator.manifest["pull"]["unreadable"], operator.manifest["pull"]["outcome"]["deleted"]) == (
        0,
        2,
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://ehr.example.org/../outside.ndjson",
        "https://ehr.example.org/x/..%2Foutside.ndjson",
        "../outside.ndjson",
        "file:///etc/passwd",
        "https://ehr.example.org/..",
        "https://ehr.example.org/",
        "https://[broken",
        "outside.ndjson\u0000",
        "https://ehr.example.org/" + "x" * 5000,
    ],
)
def test_names_lead_nowhere_else(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path, url: str
) -> None:
    """What a manifest names is looked for in its folder only; everything else is not there."""
    (folder.parent / "outside.ndjson").write_text(lines("Procedure", 1))
    (folder / "outside.ndjson").symlink_to(folder.parent / "outside.ndjson")
    manifest(named("Procedure", 1, url))
    status, said = pull()
    assert (status, "Procedure that a manifest names is not there" in said) == (22, True)
    assert len(said) < 1000
    assert pull(on_difference="finding") == (0, "")
    assert ("Procedure", "procedure-0") not in operator.landed()


FILE = '{"type":"Patient","url":"https://ehr.example.org/Patient.ndjson"'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "not a manifest of files"),
        ('{"resourceType":"Patient","id":"a"}', "not a manifest of files"),
        ('{"output":{}}', "not a manifest of files"),
        ('{"output":[null]}', "not a manifest of files"),
        ('{"output":[' + FILE + ',"count":-1}]}', "not a manifest of files"),
        ('{"output":[' + FILE + ',"count":"4"}]}', "not a manifest of files"),
        ('{"output":[' + FILE + ',"count":true}]}', "not a manifest of files"),
        ('{"output":[' + FILE + ',"count":4.5}]}', "not a manifest of files"),
        ('{"output":[' + FILE + ',"count":1' + "0" * 4000 + "}]}", "not a manifest of files"),
        ('{"output":[{"type":"<script>","url":"Patient.ndjson"}]}', "not a manifest of files"),
        ('{"output":[{"type":"Patient","url":""}]}', "not a manifest of files"),
        ('{"output":[{"type":"Patient"}]}', "not a manifest of files"),
        ('{"output":[' + FILE + "}," + FILE + "}]}", "names a file twice"),
        ('{"output":[' + FILE, "cut short"),
        ("", "cut short"),
        ('{"x":' + "[" * 1_000_000, "not JSON"),
        ('{"output":[' + "[" * 1_000_000, "not"),
        ('{"output":[' + ",".join(["{}"] * 6_000_000), "longer than 16777216 bytes"),
    ],
    ids=range(18),
)
def test_what_is_no_manifest(operator: Any, pull: Pull, folder: Path, content: str, words: str) -> None:
    """A file of that name that cannot be understood ends the pull before anything lands, in a short message."""
    (folder / "manifest.json").write_text(content)
    status, said = pull()
    assert (status, words in said, "manifest.json" in said) == (22, True, True)
    assert len(said) < 1000
    assert "<script>" not in said
    assert operator.landed() == set()


def test_numbers_of_done_files(
    operator: Any, pull: Pull, manifest: Callable[..., Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A moved file's number is known; what came on standard input, where none is kept, is read again for it."""
    manifest(named("Patient", 4))
    assert pull() == (0, "")
    (folder / "Patient.ndjson").rename(folder / "Other.ndjson")
    manifest(named("Patient", 4, "https://ehr.example.org/Other.ndjson"))
    assert pull() == (0, "")
    assert operator.manifest["pull"]["skipped"] == 2
    procedures = lines("Procedure", 2)
    sent = types.SimpleNamespace(buffer=io.BytesIO(procedures.encode()), isatty=lambda: False)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", sent)
        assert operator.pull("", source={"kind": "files", "path": "-"}) == (0, "")
    (folder / "Procedure.ndjson").write_text(procedures)
    assert pull() == (0, "")
    assert operator.manifest["pull"]["requests"] == 0
    manifest(named("Procedure", 2))
    assert pull() == (0, "")
    assert operator.manifest["pull"]["requests"] == 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, set()),
        ({"total": 3}, {"bundle-total"}),
        ({"total": 3, "link": [{"relation": "self", "url": "x"}]}, {"bundle-total"}),
        ({"total": 3, "link": [{"relation": "next", "url": "x"}]}, set()),
        ({"total": 3, "link": [{"relation": "previous", "url": "x"}]}, set()),
        ({"total": 3, "type": "collection"}, set()),
        ({"total": 1}, set()),
        ({"total": -1}, set()),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("ending", ["json", "ndjson"])
def test_a_search_result_that_states_more(
    operator: Any, pull: Pull, folder: Path, change: dict[str, Any], found: set[str], ending: str
) -> None:
    """A searchset with fewer matches than `total` and no other page is a finding, never more than that."""
    entry = [
        {"resource": {"resourceType": "Patient", "id": name}, "search": {"mode": "match"}} for name in "ab"
    ]
    entry.append({"resource": {"resourceType": "Group", "id": "g"}, "search": {"mode": "include"}})
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": 2, "entry": entry, **change}
    (folder / f"saved.{ending}").write_text(json.dumps(bundle) + "\n")
    assert pull() == (0, "")
    assert operator.findings == found


def test_the_last_page_of_several(operator: Any, pull: Pull, folder: Path) -> None:
    """A page without links to others is none to wonder at, if another page of that total has one."""
    for page, link in (("a", [{"relation": "next", "url": "x"}]), ("b", [])):
        resource = {"resourceType": "Patient", "id": page}
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": 2, "link": link,
                  "entry": [{"resource": resource}]}  # fmt: skip
        (folder / f"{page}.json").write_text(json.dumps(bundle))
    assert pull() == (0, "")
    assert operator.findings == set()
