"""The view runner against hand-written loops: Observations to rows, on one core.

    python benchmarks/views.py                50,000 Observations of about 1.1 KB
    python benchmarks/views.py --full         200,000
    python benchmarks/views.py --only runner  one of them, for a profiler

A view of eight columns with forEach over code.coding is run by this runner, by a loop over dicts of orjson, by a loop
over msgspec structs that hold only the fields the view touches, and by fhirpathpy on a sample. Each runs in a process
of its own over batches of 2,000 read from a file, gives the same rows (checked), and prints resources per CPU second
and peak memory. The loops check nothing; the runner checks each value and fails each resource by itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

BATCH = 2000
#: fhirpathpy is too slow for all of them.
SAMPLE = 2000
VIEW = {
    "name": "observations",
    "resource": "Observation",
    "select": [
        {
            "column": [
                {"name": "id", "path": "id"},
                {"name": "patient", "path": "subject.reference"},
                {"name": "status", "path": "status"},
                {"name": "date", "path": "effective.ofType(dateTime)"},
                {"name": "value", "path": "value.ofType(Quantity).value"},
                {"name": "unit", "path": "value.ofType(Quantity).unit"},
            ]
        },
        {
            "forEach": "code.coding",
            "column": [{"name": "system", "path": "system"}, {"name": "code", "path": "code"}],
        },
    ],
}

Row = tuple[Any, ...]
Rows = Callable[[list[bytes]], list[Row]]


def observation(number: int, chance: random.Random) -> dict[str, Any]:
    """A synthetic measurement, of about 1.1 KB as JSON."""
    return {
        "resourceType": "Observation",
        "id": f"obs-{number:08d}",
        "meta": {
            "versionId": "1",
            "lastUpdated": "2024-03-01T10:00:00.000+00:00",
            "profile": ["http://hl7.org/fhir/us/mcode/StructureDefinition/mcode-tumor-size"],
        },
        "identifier": [{"system": "urn:example:measurement", "value": f"M-{number:08d}"}],
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "imaging",
                        "display": "Imaging",
                    }
                ]
            }
        ],
        "code": {
            "coding": [
                {
                    "system": "http://loinc.org",
                    "code": "33728-7",
                    "display": "Size.maximum dimension in Tumor",
                },
                {"system": "http://snomed.info/sct", "code": "399734005", "display": "Tumor size, largest"},
            ],
            "text": "Longest diameter of the lesion",
        },
        "subject": {"reference": f"Patient/p{number % 5000}"},
        "encounter": {"reference": f"Encounter/e{number % 20000}"},
        "effectiveDateTime": f"20{chance.randint(10, 24)}-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}",
        "valueQuantity": {
            "value": chance.randint(50, 1500) / 10,
            "unit": "mm",
            "system": "http://unitsofmeasure.org",
            "code": "mm",
        },
        "method": {"coding": [{"system": "http://snomed.info/sct", "code": "77477000", "display": "CT"}]},
    }


def by_runner() -> Rows:
    from fhir_adapter.mapping.views import load_view

    view = load_view(VIEW)

    def rows(bodies: list[bytes]) -> list[Row]:
        result = view.run(bodies)
        assert not result.failures
        return list(zip(*result.columns.values(), strict=True))

    return rows


def by_orjson() -> Rows:
    import orjson

    def rows(bodies: list[bytes]) -> list[Row]:
        found: list[Row] = []
        for body in bodies:
            item = orjson.loads(body)
            if item.get("resourceType") != "Observation":
                continue
            quantity = item.get("valueQuantity") or {}
            head = (
                item.get("id"),
                (item.get("subject") or {}).get("reference"),
                item.get("status"),
                item.get("effectiveDateTime"),
                quantity.get("value"),
                quantity.get("unit"),
            )
            found += [
                (*head, coding.get("system"), coding.get("code"))
                for coding in (item.get("code") or {}).get("coding") or ()
            ]
        return found

    return rows


def by_structs() -> Rows:
    import msgspec

    coding = msgspec.defstruct("Coding", [("system", str | None, None), ("code", str | None, None)])
    concept = msgspec.defstruct("Concept", [("coding", list[coding], [])])  # type: ignore[valid-type]
    quantity = msgspec.defstruct("Quantity", [("value", float | None, None), ("unit", str | None, None)])
    reference = msgspec.defstruct("Reference", [("reference", str | None, None)])
    observation_ = msgspec.defstruct(
        "Observation",
        [
            ("resourceType", str),
            ("id", str | None, None),
            ("status", str | None, None),
            ("effectiveDateTime", str | None, None),
            ("subject", reference | None, None),
            ("valueQuantity", quantity | None, None),
            ("code", concept | None, None),
        ],
    )
    decode = msgspec.json.Decoder(observation_).decode

    def rows(bodies: list[bytes]) -> list[Row]:
        found: list[Row] = []
        for body in bodies:
            item: Any = decode(body)
            if item.resourceType != "Observation" or item.code is None:
                continue
            value = item.valueQuantity
            head = (
                item.id,
                item.subject.reference if item.subject else None,
                item.status,
                item.effectiveDateTime,
                value.value if value else None,
                value.unit if value else None,
            )
            found += [(*head, one.system, one.code) for one in item.code.coding]
        return found

    return rows


def by_fhirpathpy() -> Rows:
    import fhirpathpy
    from fhirpathpy.models import models

    def compiled(select: dict[str, Any]) -> list[Any]:
        return [fhirpathpy.compile(column["path"], models["r4"]) for column in select["column"]]

    outer, inner = (compiled(select) for select in VIEW["select"])  # type: ignore[arg-type]
    each = fhirpathpy.compile("code.coding", models["r4"])

    def values(paths: list[Any], node: Any) -> list[Any]:
        return [next(iter(path(node, {})), None) for path in paths]

    def rows(bodies: list[bytes]) -> list[Row]:
        found: list[Row] = []
        for body in bodies:
            item = json.loads(body)
            head = values(outer, item)
            found += [(*head, *values(inner, coding)) for coding in each(item, {})]
        return found

    return rows


WAYS = {
    "runner": by_runner,
    "orjson and dicts": by_orjson,
    "msgspec structs": by_structs,
    "fhirpathpy": by_fhirpathpy,
}


def batches(path: Path, limit: int) -> Iterator[list[bytes]]:
    with path.open("rb") as file:
        lines = islice(file, limit)
        while batch := list(islice(lines, BATCH)):
            yield batch


def measure(way: str, path: Path, limit: int) -> dict[str, Any]:
    """Resources per CPU second, peak memory and a digest of the first rows."""
    rows = WAYS[way]()
    rows(next(batches(path, 100)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest = hashlib.sha256()
    made = read = 0
    spent = 0.0
    for batch in batches(path, limit):
        start = time.process_time()
        found = rows(batch)
        spent += time.process_time() - start
        if read < SAMPLE:
            for row in found:
                digest.update(repr([float(one) if n == 4 else one for n, one in enumerate(row)]).encode())
        read += len(batch)
        made += len(found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "per second": read / spent,
        "rows": made / read,
        "peak": peak * 1024,
        "grown": (peak - before) * 1024,
        "digest": digest.hexdigest(),
    }


def alone(way: str, path: Path, limit: int) -> dict[str, Any]:
    """A measurement in a process of its own, on one core."""
    command = [sys.executable, __file__, "--only", way, "--file", str(path), "--number", str(limit)]
    one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=one_core).stdout
    found: dict[str, Any] = json.loads(answer)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--number", type=int, default=50_000)
    parser.add_argument("--full", action="store_true", help="200,000 Observations")
    parser.add_argument("--only", choices=WAYS, help="measure one way, in this process")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    number = 200_000 if arguments.full else arguments.number
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "observations.ndjson"
        if arguments.file is None:
            chance = random.Random(1)
            with path.open("w") as file:
                file.writelines(json.dumps(observation(n, chance)) + "\n" for n in range(number))
        if arguments.only:
            print(json.dumps(measure(arguments.only, path, number)))
            return 0
        print(f"{number:,} Observations, {path.stat().st_size / number:,.0f} bytes each")
        found = {way: alone(way, path, SAMPLE if way == "fhirpathpy" else number) for way in WAYS}
    own = found["runner"]["per second"]
    print(f"{'':20}{'resources / CPU s':>20}{'runner is':>14}{'peak, MB':>12}{'of that, rows':>16}")
    for way, one in found.items():
        times = f"{own / one['per second']:.2f} x"
        print(
            f"{way:20}{one['per second']:>20,.0f}{times:>14}{one['peak'] / 1e6:>12,.0f}{one['grown'] / 1e6:>16,.0f}"
        )
    assert len({one["digest"] for one in found.values()}) == 1, "the rows differ"
    return 0


if __name__ == "__main__":
    sys.exit(main())
