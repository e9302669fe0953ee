"""`fhir-adapter view`: one view over files, without a study or a run."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import sys
import tempfile
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Protocol, cast

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from fhir_adapter.connectors.bundles import read_bundle
from fhir_adapter.engines.processes import in_order
from fhir_adapter.errors import SourceNotFhir, SourceUnreachable, UsageError
from fhir_adapter.mapping.catalogue import shipped_views
from fhir_adapter.mapping.release import RELEASES, Release
from fhir_adapter.mapping.views import CompiledView, Failure, RunResult, load_view
from fhir_adapter.undecodable import UNDECODABLE

__all__ = ["Format", "view"]

#: Resources of a batch; with it, and not with the files, memory grows.
_BATCH = 2000
_BATCH_BYTES = 16 * 1024 * 1024
_MAX_BYTES = 256 * 1024 * 1024
_SHOWN = 20
#: Bytes of an NDJSON file that one task reads.
_BLOCK_BYTES = 4 * 1024 * 1024
_json = msgspec.json.Encoder(decimal_format="number").encode
_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Format(StrEnum):
    """What the rows are written as."""

    NDJSON = "ndjson"
    CSV = "csv"
    PARQUET = "parquet"


#: A resource and where it stands.
Item = tuple[str, bytes]


class _Kind(msgspec.Struct):
    resourceType: str | None = None  # noqa: N815 - FHIR's name


_kind = msgspec.json.Decoder(_Kind).decode


def _find(name: str, release: Release) -> Path:
    """File of a view: a path, or the name of one that ships."""
    path = Path(name)
    if path.suffix == ".json" or len(path.parts) > 1:
        return path
    shipped = shipped_views(release)
    if name not in shipped:
        raise UsageError(
            f"there is no shipped view {name}",
            where="VIEW",
            remedy=f"There are {', '.join(sorted(shipped))}.",
        )
    return shipped[name]


def _type(text: bytes) -> str | None:
    try:
        return _kind(text).resourceType
    except UNDECODABLE:
        return None


def _inside(text: bytes, place: str, wanted: str) -> Iterator[Item]:
    """A resource itself, or if it is a Bundle and no Bundle is wanted, its entries."""
    if wanted == "Bundle" or b'"Bundle"' not in text or _type(text) != "Bundle":
        yield place, text
        return
    try:
        bundle = read_bundle(text)
    except ValueError:
        yield place, text  # the view says what is wrong with it
        return
    for number, entry in enumerate(bundle.entry or (), start=1):
        if entry is not None and bytes(entry.resource) not in {b"", b"null"}:
            yield from _inside(bytes(entry.resource), f"{place}:entry {number}", wanted)


def _document(text: bytes, name: str, wanted: str) -> Iterator[Item]:
    try:
        parts = _array(text) if text.startswith(b"[") else [msgspec.Raw(text)]
        if not text.startswith(b"["):
            msgspec.json.decode(text, type=msgspec.Raw)
    except UNDECODABLE as error:
        raise SourceNotFhir(
            "this is not JSON, or it is cut short", where=name, remedy="Bring it again, whole."
        ) from error
    for number, part in enumerate(parts, start=1):
        place = f"{name}:item {number}" if text.startswith(b"[") else name
        yield from _inside(bytes(part), place, wanted)


def _lines(first: bytes, handle: BinaryIO, name: str, wanted: str) -> Iterator[Item]:
    number, line = 1, first
    while line:
        if len(line) > _MAX_BYTES:
            raise SourceNotFhir(f"a line is longer than {_MAX_BYTES} bytes", where=f"{name}:{number}")
        if text := line.strip():
            yield from _inside(text, f"{name}:{number}", wanted)
        line = handle.readline(_MAX_BYTES + 1)
        number += 1


def _read(handle: BinaryIO, name: str, wanted: str) -> Iterator[Item]:
    """The resources of a file: NDJSON if its first line is a whole object, else one JSON document."""
    first = handle.readline(_MAX_BYTES + 1).removeprefix(b"\xef\xbb\xbf")
    ndjson = name.removesuffix(".gz").endswith((".ndjson", ".jsonl"))
    if ndjson or (first.lstrip().startswith(b"{") and _type(first) is not None):
        yield from _lines(first, handle, name, wanted)
        return
    text = first + handle.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise SourceNotFhir(f"a document is longer than {_MAX_BYTES} bytes", where=name, remedy="Use NDJSON.")
    if text.strip():
        yield from _document(text.strip(), name, wanted)


def _unzipped(raw: BinaryIO) -> BinaryIO:
    """The content of a file that may be gzipped, whatever its name: standard input has none."""
    buffered = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", raw))
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        return cast("BinaryIO", gzip.GzipFile(fileobj=buffered))
    return buffered


def _items(files: list[str], wanted: str) -> Iterator[Item]:
    for file in files:
        name = "standard input" if file == "-" else Path(file).name
        try:
            with contextlib.ExitStack() as stack:
                raw = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
                yield from _read(_unzipped(raw), name, wanted)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceNotFhir("the gzip file is damaged or cut short", where=name) from error
        except OSError as error:
            raise SourceUnreachable(f"the file cannot be read ({error.strerror})", where=name) from error


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item[1])
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True)
class _Piece:
    """What one task reads: lines of an NDJSON file by their bytes, or resources that were read already."""

    name: str
    path: Path | None = None
    start: int = 0
    end: int = 0
    items: tuple[Item, ...] = ()


@dataclass
class _Done:
    """What came of a piece: rows as they are written, and what could not be used.

    `lines` are the lines that it has, since the number of the first one is known to nobody else.
    """

    rows: bytes
    read: int
    made: int
    used: int
    lines: int
    failures: list[tuple[Failure, Item]]


class _Encoding(Protocol):
    """Rows of a result to bytes, in the process that made them."""

    def __call__(self, result: RunResult) -> bytes:
        """The rows."""


def _ndjson(result: RunResult) -> bytes:
    return b"".join(_json(row) + b"\n" for row in result.rows())


def _cell(value: Any) -> str:
    """A value in CSV: numbers as written, lists and objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return (
        str(value)
        if isinstance(value, (int, Decimal)) and not isinstance(value, bool)
        else _json(value).decode()
    )


def _csv(result: RunResult) -> bytes:
    text = io.StringIO(newline="")
    rows = zip(*result.columns.values(), strict=True)
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _arrow(result: RunResult) -> bytes:
    batch = result.to_arrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return cast("bytes", sink.getvalue().to_pybytes())


_ENCODINGS: dict[Format, _Encoding] = {Format.NDJSON: _ndjson, Format.CSV: _csv, Format.PARQUET: _arrow}

#: What a process works with, set once by `_begin`.
_AT_WORK: dict[str, tuple[CompiledView, _Encoding]] = {}


def _begin(file: Path, format_: Format, release: str) -> None:
    _AT_WORK["view"] = (load_view(file, release=release), _ENCODINGS[format_])


def _work(piece: _Piece) -> _Done:
    """Runs the view over a piece; in a pool this is another process."""
    made, encoding = _AT_WORK["view"]
    lines, items = 0, list(piece.items)
    if piece.path is not None:
        with piece.path.open("rb") as handle:
            handle.seek(piece.start)
            text = handle.read(piece.end - piece.start)
        split = text.split(b"\n")
        lines = len(split) - 1
        items = [
            item
            for number, line in enumerate(map(bytes.strip, split))
            if line
            for item in _inside(line, f"{number}", made.resource)
        ]
    result = made.run([body for _, body in items])
    return _Done(
        encoding(result),
        len(items),
        len(result),
        len(set(result.row_resource)),
        lines,
        [(failure, items[failure.index]) for failure in result.failures],
    )


def _pieces(files: list[str], wanted: str) -> Iterator[_Piece]:
    """What the tasks read: plain NDJSON files by their bytes, so that no process waits for another to read."""
    for file in files:
        path = Path(file)
        if file != "-" and path.suffix in {".ndjson", ".jsonl"}:
            try:
                yield from _cut(path)
            except OSError as error:
                raise SourceUnreachable(
                    f"the file cannot be read ({error.strerror})", where=path.name
                ) from error
            continue
        for batch in _batches(_items([file], wanted)):
            yield _Piece("", items=tuple(batch))


def _cut(path: Path) -> Iterator[_Piece]:
    with path.open("rb") as handle:
        start = 3 if handle.read(3) == b"\xef\xbb\xbf" else 0
        while True:
            handle.seek(start + _BLOCK_BYTES)
            rest = handle.readline(_MAX_BYTES + 1)
            if len(rest) > _MAX_BYTES:
                raise SourceNotFhir(f"a line is longer than {_MAX_BYTES} bytes", where=path.name)
            end = handle.tell()
            yield _Piece(path.name, path, start, end)
            if not rest.endswith(b"\n"):
                return
            start = end


class _Rows:
    """Rows that are text are written as they come."""

    def __init__(self, out: BinaryIO, head: bytes = b"") -> None:
        self._out = out
        self._out.write(head)

    def add(self, rows: bytes) -> None:
        """Writes the rows of a piece."""
        self._out.write(rows)

    def end(self) -> None:
        """Writes what comes last."""
        self._out.flush()


class _Parquet(_Rows):
    """Parquet has one schema, and the width of a decimal column is known at the end: batches wait in a file."""

    def __init__(self, out: BinaryIO, empty: pa.RecordBatch) -> None:
        super().__init__(out)
        self._waiting = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._schema = empty.schema
        self._number = 0

    def add(self, rows: bytes) -> None:
        with pa.ipc.open_stream(rows) as stream:
            self._schema = pa.schema(
                [_wider(*pair) for pair in zip(self._schema, stream.schema, strict=True)]
            )
        self._waiting.write(rows)
        self._number += 1

    def end(self) -> None:
        self._waiting.seek(0)
        with self._waiting, pq.ParquetWriter(self._out, self._schema) as writer:
            for _ in range(self._number):
                with pa.ipc.open_stream(self._waiting) as stream:
                    for batch in stream:
                        writer.write_table(pa.Table.from_batches([batch]).cast(self._schema))
        self._out.flush()


def _wider(one: pa.Field, two: pa.Field) -> pa.Field:
    """A column that holds the decimals of both; other types are equal."""
    listed = pa.types.is_list(one.type)
    first, second = (one.type.value_type, two.type.value_type) if listed else (one.type, two.type)
    if not pa.types.is_decimal(first):
        return one
    scale = max(first.scale, second.scale)
    precision = scale + max(first.precision - first.scale, second.precision - second.scale)
    type_ = (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
    return pa.field(one.name, pa.list_(type_) if listed else type_)


@contextlib.contextmanager
def _private(path: Path | None) -> Iterator[BinaryIO]:
    """A file that only its owner reads and that is whole or not there; standard output without a path."""
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UsageError(f"nothing can be written there ({error.strerror})", where=str(path)) from error
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _writer(format_: Format, out: BinaryIO, made: CompiledView) -> _Rows:
    if format_ is Format.NDJSON:
        return _Rows(out)
    if format_ is Format.CSV:
        return _Rows(out, ",".join(column.name for column in made.columns).encode() + b"\n")
    return _Parquet(out, made.run([]).to_arrow())


def _placed(done: _Done, piece: _Piece, before: int) -> Iterator[tuple[Failure, Item]]:
    """Failures with their place: in a file that was cut, the piece knows its own lines alone."""
    for failure, (place, body) in done.failures:
        if piece.path is not None:
            line, _, entry = place.partition(":")
            place = f"{piece.name}:{before + int(line) + 1}" + (f":{entry}" if entry else "")
        yield failure, (place, body)


def _quarantined(failure: Failure, item: Item) -> bytes:
    place, body = item
    told = {"origin": place, "code": failure.code, "path": failure.json_path, "reason": failure.reason}
    return (
        json.dumps({**told, "resource": body.decode("utf-8", "replace")}, ensure_ascii=False).encode() + b"\n"
    )


def view(
    name: Annotated[
        str, typer.Argument(metavar="VIEW", help="Path of a view, or the name of a shipped one.")
    ],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="NDJSON, Bundles, arrays, single resources, also gzipped; - is standard input.",
        ),
    ],
    format_: Annotated[
        Format, typer.Option("--format", metavar="ndjson|csv|parquet", help="What the rows are written as.")
    ] = Format.NDJSON,
    out: Annotated[Path | None, typer.Option("--out", help="File for the rows; Parquet needs one.")] = None,
    quarantine: Annotated[
        Path | None,
        typer.Option("--quarantine", help="File (NDJSON) for resources that could not be used, and why."),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", min=1, max=64, help="How many processes share the work.")
    ] = 1,
    release: Annotated[
        str, typer.Option("--release", metavar="RELEASE", help="FHIR release of the files: R4, R4B or R5.")
    ] = "R4",
) -> None:
    """Run one SQL on FHIR view over files and write its rows; counts and failures go to stderr.

    A resource that cannot be used is counted, named by file and line, and harms no other.
    """
    if format_ is Format.PARQUET and out is None:
        raise UsageError("Parquet needs a file", where="--format parquet", remedy="Name one with --out.")
    wanted = next((one for one in RELEASES if one == release.upper()), None)
    if wanted is None:
        raise UsageError("no such release", where="--release", remedy=f"There are {', '.join(RELEASES)}.")
    file = _find(name, wanted)
    tables = "R5" if wanted == "R5" else "R4"
    made = load_view(file, release=tables)
    for note in made.notes:
        typer.echo(note, err=True)
    read = used = rows = failed = 0
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(_private(out))
        bad = stack.enter_context(_private(quarantine)) if quarantine is not None else None
        writer = _writer(format_, target, made)
        lines: Counter[str] = Counter()
        sent: deque[_Piece] = deque()
        for done in in_order(
            _work,
            _noted(_pieces(files, made.resource), sent),
            processes,
            start=_begin,
            given=(file, format_, tables),
        ):
            piece = sent.popleft()
            writer.add(done.rows)
            read, rows, used = read + done.read, rows + done.made, used + done.used
            for number, (failure, item) in enumerate(_placed(done, piece, lines[piece.name])):
                if failed + number < _SHOWN:
                    typer.echo(f"{item[0]}: {failure.json_path}: {failure.reason} ({failure.code})", err=True)
                if bad is not None:
                    bad.write(_quarantined(failure, item))
            failed += len(done.failures)
            lines[piece.name] += done.lines
        writer.end()
    if failed > _SHOWN:
        typer.echo(f"... and {failed - _SHOWN} more", err=True)
    typer.echo(f"{read} resources, {rows} rows from {used} of them, {failed} could not be used", err=True)


def _noted(pieces: Iterator[_Piece], sent: deque[_Piece]) -> Iterator[_Piece]:
    for piece in pieces:
        sent.append(piece)
        yield piece
