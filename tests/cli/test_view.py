"""`fhir-adapter view`: a view over files, rows to stdout, counts and failures to stderr."""

from __future__ import annotations

import gzip
import importlib
import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from fhir_adapter.cli import app
from fhir_adapter.errors import SourceNotFhir, SourceUnreachable, StudyFileError, UsageError

VIEW = {
    "name": "sizes",
    "resource": "Observation",
    "select": [
        {
            "column": [
                {"name": "id", "path": "id"},
                {"name": "size", "path": "value.ofType(Quantity).value"},
                {"name": "codes", "path": "code.coding.code", "collection": True},
                {"name": "noted", "path": "note.exists()"},
            ]
        }
    ],
}


def observation(id_: str, size: str = "1.50") -> str:
    return (
        f'{{"resourceType":"Observation","id":"{id_}","valueQuantity":{{"value":{size}}},'
        '"code":{"coding":[{"code":"a"},{"code":"b"}]}}'
    )


def bundle(*resources: str) -> str:
    entries = ",".join(f'{{"resource":{resource}}}' for resource in resources)
    return f'{{"resourceType":"Bundle","type":"collection","entry":[{entries},{{}},null]}}'


@pytest.fixture
def view(tmp_path: Path) -> str:
    path = tmp_path / "sizes.json"
    path.write_text(json.dumps(VIEW))
    return str(path)


def call(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["view", *map(str, arguments)], input=stdin)


def ids(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ndjson", f"{observation('1')}\n\n{observation('2')}\n"),
        ("a.ndjson", f"\ufeff{observation('1')}\r\n{observation('2')}"),
        ("a.txt", f"{observation('1')}\n{observation('2')}\n"),
        ("a.json", bundle(observation("1"), observation("2"))),
        ("a.json", bundle(observation("1"), observation("2")).replace(",", ",\n")),
        ("a.json", f"[{observation('1')}, {observation('2')}]"),
        ("a.json", f"[\n{bundle(observation('1'))},\n{observation('2')}\n]"),
        ("a.ndjson", f"{bundle(observation('1'))}\n{observation('2')}"),
        ("a.json", bundle(bundle(observation("1")), observation("2"))),
    ],
)
@pytest.mark.parametrize("how", ["plain", "gzipped", "standard input"])
def test_every_kind_of_file(tmp_path: Path, view: str, name: str, text: str, how: str) -> None:
    """NDJSON, Bundles, arrays and what they hold are read, plain, gzipped or from standard input."""
    data = text.encode()
    if how == "standard input":
        result = call(view, "-", stdin=data)
    else:
        path = tmp_path / (name + ".gz" if how == "gzipped" else name)
        path.write_bytes(gzip.compress(data) if how == "gzipped" else data)
        result = call(view, path)

    assert ids(result) == ["1", "2"]
    assert result.stderr == "2 resources, 2 rows from 2 of them, 0 could not be used\n"


def test_rows_as_ndjson(tmp_path: Path, view: str) -> None:
    """A row is one line of JSON; numbers keep their digits."""
    (tmp_path / "a.json").write_text(observation("1"))

    assert call(view, tmp_path / "a.json").stdout == (
        '{"id":"1","size":1.50,"codes":["a","b"],"noted":false}\n'
    )


def test_rows_as_csv(tmp_path: Path, view: str) -> None:
    """CSV has one header, also over several files; lists are JSON, missing values are empty."""
    (tmp_path / "a.json").write_text(observation('x", y').replace('x", y', "x, y"))
    (tmp_path / "b.json").write_text('{"resourceType":"Observation","id":"2"}')

    assert call(view, tmp_path / "a.json", tmp_path / "b.json", "--format", "csv").stdout == (
        'id,size,codes,noted\n"x, y",1.50,"[""a"",""b""]",false\n2,,[],false\n'
    )


def test_rows_as_parquet(tmp_path: Path, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet has one schema over all batches: a decimal column is as wide as its widest values."""
    monkeypatch.setattr(importlib.import_module("fhir_adapter.cli.view"), "_BATCH", 1)
    lines = [observation("1", "1.50"), observation("2", "1234"), '{"resourceType":"Observation","id":"3"}']
    (tmp_path / "a.ndjson").write_text("\n".join(lines))
    out = tmp_path / "a.parquet"
    result = call(view, tmp_path / "a.ndjson", "--format", "parquet", "--out", out)

    assert result.exit_code == 0
    assert result.stdout == ""
    table = pq.read_table(out)
    assert str(table.schema.field("size").type) == "decimal128(6, 2)"
    assert table.column("size").to_pylist() == [Decimal("1.50"), Decimal("1234.00"), None]
    assert table.column("codes").to_pylist() == [["a", "b"], ["a", "b"], []]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_parquet_of_no_rows(tmp_path: Path, view: str) -> None:
    """Without a row the file still has the columns of the view."""
    (tmp_path / "a.json").write_text('{"resourceType":"Patient","id":"1"}')
    assert call(view, tmp_path / "a.json", "--format", "parquet", "--out", tmp_path / "o").exit_code == 0

    assert pq.read_table(tmp_path / "o").schema.names == ["id", "size", "codes", "noted"]


def test_failures_are_counted_named_and_kept(tmp_path: Path, view: str) -> None:
    """A bad resource is named by line on stderr and kept in the quarantine file; the others give their rows."""
    bad = ['{"resourceType":"Observation","valueQuantity":[]}', "{cut", "[]"]
    (tmp_path / "a.ndjson").write_text("\n".join([observation("1"), *bad, observation("2")]))
    kept = tmp_path / "bad.ndjson"
    result = call(view, tmp_path / "a.ndjson", "--quarantine", kept)

    assert ids(result) == ["1", "2"]
    assert result.stderr.splitlines() == [
        "a.ndjson:2: $.valueQuantity: a single value was expected here, there is a list (shape)",
        "a.ndjson:3: $: this is not JSON (json)",
        "a.ndjson:4: $: this is not a JSON object (json)",
        "5 resources, 2 rows from 2 of them, 3 could not be used",
    ]
    told = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [(one["origin"], one["code"], one["resource"]) for one in told] == [
        ("a.ndjson:2", "shape", bad[0]),
        ("a.ndjson:3", "json", bad[1]),
        ("a.ndjson:4", "json", bad[2]),
    ]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_many_failures_are_summed_up(tmp_path: Path, view: str) -> None:
    """After twenty failures the rest is a number, so that a terminal stays readable."""
    (tmp_path / "a.ndjson").write_text("{\n" * 50)
    lines = call(view, tmp_path / "a.ndjson").stderr.splitlines()

    assert len(lines) == 22
    assert lines[-2:] == ["... and 30 more", "50 resources, 0 rows from 0 of them, 50 could not be used"]


def test_a_shipped_view_by_its_name(tmp_path: Path) -> None:
    """A bare name is that of a shipped view; entries of other types give nothing."""
    patient = '{"resourceType":"Patient","id":"p","birthDate":"1970","gender":"female"}'
    (tmp_path / "a.json").write_text(bundle(observation("1"), patient))
    result = call("dm_patient", tmp_path / "a.json")

    assert json.loads(result.stdout)["BRTHDTC"] == "1970"
    assert result.stderr == "2 resources, 1 rows from 1 of them, 0 could not be used\n"


def test_a_view_of_bundles_takes_them_whole(tmp_path: Path) -> None:
    """A view whose resource is Bundle gets the Bundle and not its entries."""
    path = tmp_path / "v.json"
    selected = [{"column": [{"name": "id", "path": "type"}]}]
    path.write_text(json.dumps({"resource": "Bundle", "select": selected}))
    (tmp_path / "a.json").write_text(bundle(observation("1")))

    assert ids(call(path, tmp_path / "a.json")) == ["collection"]


def test_a_slow_expression_is_said(tmp_path: Path) -> None:
    """A view outside the compiled subset runs, and stderr says that it is slower."""
    path = tmp_path / "v.json"
    path.write_text(
        json.dumps(
            {"resource": "Observation", "select": [{"column": [{"name": "id", "path": "id.upper()"}]}]}
        )
    )
    (tmp_path / "a.json").write_text(observation("x"))
    result = call(path, tmp_path / "a.json")

    assert ids(result) == ["X"]
    assert "left to fhirpathpy" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["no_such_view", "a.ndjson"], UsageError),
        (["missing.json", "a.ndjson"], StudyFileError),
        (["dm_patient", "missing.ndjson"], SourceUnreachable),
        (["dm_patient", "cut.json"], SourceNotFhir),
        (["dm_patient", "cut.ndjson.gz"], SourceNotFhir),
        (["dm_patient", "a.ndjson", "--format", "parquet"], UsageError),
        (["dm_patient", "a.ndjson", "--out", "nowhere/out.csv"], UsageError),
    ],
)
def test_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: type[Exception]
) -> None:
    """What cannot be done ends with its error, and with its exit status from the program."""
    monkeypatch.chdir(tmp_path)
    Path("a.ndjson").write_text(observation("1"))
    Path("cut.json").write_text(bundle(observation("1"))[:-9])
    Path("cut.ndjson.gz").write_bytes(gzip.compress(observation("1").encode())[:-12])

    assert isinstance(call(*arguments).exception, error)


def test_a_run_that_fails_leaves_no_file(tmp_path: Path, view: str) -> None:
    """A file that cannot be read to its end leaves neither half a result nor the old one destroyed."""
    (tmp_path / "good.ndjson").write_text(observation("1"))
    (tmp_path / "cut.json").write_text("[{")
    out = tmp_path / "out.ndjson"
    out.write_text("old")
    before = sorted(tmp_path.iterdir())
    result = call(view, tmp_path / "good.ndjson", tmp_path / "cut.json", "--out", out)

    assert isinstance(result.exception, SourceNotFhir)
    assert out.read_text() == "old"
    assert sorted(tmp_path.iterdir()) == before
