"""From FHIR resources to responses: lesions that split or merged, and scans that several readers read."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from derive_frames import day

sys.path.insert(0, str(Path(__file__).parent.parent / "mapping"))
import mapping_support as support

from fhir_adapter.demo import resources as r
from fhir_adapter.derive.stage import Derived, derive

PATIENT = "Patient/six-sd"  # one target, T01: 80 mm at baseline, 76 and 78 mm later; one non-target
DCM = "http://dicom.nema.org/resources/ontology/DCM"
LIVER = ("http://snomed.info/sct", "10200004", "Liver structure")


def derived(*more: dict[str, Any], **changes: Any) -> Derived:
    """The patient with some more resources, from FHIR to the analysis datasets."""
    study = support.six_study(**changes)
    own = [item for item in support.six() if item["id"].startswith(("six-sd", "six-study", "six-anlotinib"))]
    mapped = support.map_resources(support.landed([*own, *more]), study, key=None)
    return derive(mapped.datasets, study, cutoff=dt.date(2022, 6, 30))


def size(id_: str, lesion: str, date: str, value: float, reader: str | None = None) -> dict[str, Any]:
    """A diameter, perhaps read by somebody."""
    made = r.tumor_size(id_, patient=PATIENT, lesion=f"BodyStructure/{lesion}", date=date, value=value)
    return made if reader is None else made | {"performer": [{"display": reader}]}


def structure(id_: str, lesion: str) -> dict[str, Any]:
    """A lesion in the liver."""
    return r.body_structure(id_, patient=PATIENT, lesion=lesion, location=LIVER)


def tracked(observation: dict[str, Any], name: str) -> dict[str, Any]:
    """The Observation with DICOM's Tracking Identifier."""
    part = {"code": {"coding": [{"system": DCM, "code": "112039"}]}, "valueString": name}
    return observation | {"component": [*observation["component"], part]}


def focused(observation: dict[str, Any], *lesions: str) -> dict[str, Any]:
    """The Observation about several lesions at once."""
    return observation | {"focus": [{"reference": f"BodyStructure/{lesion}"} for lesion in lesions]}


def sums(result: Derived) -> dict[str | None, float]:
    """Day → sum of diameters."""
    table = result.datasets["ADTR"]
    return dict(zip(table["ADT"].map(day), table["AVAL"], strict=True))


AT = "2021-12-14"
SPLIT = {
    "a BodyStructure each": [
        structure("six-sd-t01-1", "T01.1"),
        structure("six-sd-t01-2", "T01.2"),
        size("six-sd-a", "six-sd-t01-1", AT, 30),
        size("six-sd-b", "six-sd-t01-2", AT, 20),
    ],
    "tracking identifiers": [
        tracked(size("six-sd-a", "six-sd-t01", AT, 30), "T01.1"),
        tracked(size("six-sd-b", "six-sd-t01", AT, 20), "T01.2"),
    ],
}


@pytest.mark.parametrize("dialect", SPLIT)
def test_fragments_are_added(dialect: str) -> None:
    """30 and 20 mm of a lesion of 80 mm are 50 mm: PR, and the sum leads to both measurements."""
    result = derived(*SPLIT[dialect])
    assert sums(result)[AT] == 50.0
    adrs = result.datasets["ADRS"]
    (row,) = adrs[(adrs["PARAMCD"] == "TRG") & (adrs["ADT"] == pd.Timestamp(AT))].to_dict("records")
    assert row["AVALC"] == "PR"
    links, table = result.datasets["LINEAGE"], result.datasets["ADTR"]
    seq = table.loc[table["ADT"] == pd.Timestamp(AT), "ASEQ"].item()
    own = links[(links["DATASET"] == "ADTR") & (links["SEQ"] == seq) & (links["ROLE"] == "sum")]
    assert len(own) == 2
    assert result.findings == []


def test_a_merged_lesion_is_one() -> None:
    """One Observation about two lesions is the lesion into which they merged: 85 mm for both."""
    more = [
        structure("six-sd-t02", "T02"),
        size("six-sd-c", "six-sd-t02", "2021-04-06", 20),
        size("six-sd-d", "six-sd-t02", "2021-06-08", 20),
        size("six-sd-e", "six-sd-t02", "2021-10-12", 20),
        focused(size("six-sd-f", "six-sd-t01", AT, 85), "six-sd-t02", "six-sd-t01"),
    ]
    result = derived(*more)
    found = sums(result)
    assert (found["2021-04-06"], found[AT]) == (100.0, 85.0)
    table = result.datasets["ADTR"]
    assert table.loc[table["ADT"] == pd.Timestamp(AT), "PCHG"].item() == -15.0
    assert result.findings == []


def test_readers_are_told_by_the_performer() -> None:
    """Two readers measured the same scans: each is graded alone, the study says whose result counts."""
    more = [
        size(f"six-sd-{reader[-1]}-{date}", "six-sd-t01", date, value, reader)
        for reader, values in (("Radiologist 1", (80, 50, 40)), ("Radiologist 2", (70, 70, 90)))
        for date, value in zip(("2021-04-06", "2021-06-08", "2021-08-10"), values, strict=True)
    ]
    result = derived(*more, response={"measured_by": "RADIOLOGIST 2"})
    adrs = result.datasets["ADRS"]
    rows = adrs[adrs["PARAMCD"] == "COMP"]
    words = {name: list(own["AVALC"]) for name, own in rows.groupby("EVAL")}
    assert words == {
        "INVESTIGATOR": ["SD", "SD"],
        "RADIOLOGIST 1": ["PR", "PR"],
        "RADIOLOGIST 2": ["SD", "PD"],
    }
    assert list(adrs.loc[adrs["PARAMCD"] == "OVR", "AVALC"]) == ["SD", "PD"]
    assert sums(result) == {"2021-04-06": 70.0, "2021-06-08": 70.0, "2021-08-10": 90.0}
