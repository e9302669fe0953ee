"""Several evaluators: each graded alone, one that counts, and adjudication where readers disagree."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from derive_frames import BASE, codes, day, derived, lesion, row, size, study, subject, sums

from fhir_adapter.derive.stage import Derived
from fhir_adapter.errors import StudyFileError
from fhir_adapter.study import Study

READERS = {"readers": ["RADIOLOGIST 1", "RADIOLOGIST 2"], "adjudicator": "ADJUDICATOR"}


def reads(reader: str, *visits: tuple[str, float | None], usubjid: str = "S1") -> list[dict[str, Any]]:
    """A reader's measurements: 100 mm at baseline, then the visits given."""
    by = {"TREVAL": "INDEPENDENT ASSESSOR", "TREVALID": reader}
    return [one | by for one in sums(*visits, usubjid=usubjid)]


def said(reader: str, *visits: tuple[str, str]) -> list[dict[str, Any]]:
    """A reader's recorded responses."""
    by = {"RSEVAL": "INDEPENDENT ASSESSOR", "RSEVALID": reader}
    return [{"USUBJID": "S1", "RSSTRESC": word, "RSDTC": at} | by for at, word in visits]


def adjudicated(**more: Any) -> Study:
    """A study with two readers and an adjudicator."""
    return study(response={"adjudication": READERS | more})


def overall(result: Derived, code: str = "OVR") -> list[tuple[str | None, str, str]]:
    """Day, response and evaluator of the rows of a parameter."""
    rows = result.datasets["ADRS"]
    rows = rows[rows["PARAMCD"] == code]
    return [(day(r["ADT"]), r["AVALC"], r["EVAL"]) for r in rows.to_dict("records")]


AGREE = [*reads("RADIOLOGIST 1", ("2021-03-05", 60.0)), *reads("RADIOLOGIST 2", ("2021-03-06", 65.0))]
DIFFER = [*reads("RADIOLOGIST 1", ("2021-03-05", 60.0)), *reads("RADIOLOGIST 2", ("2021-03-05", 90.0))]


def test_each_evaluator_is_graded_alone() -> None:
    """The same lesion is 60 mm for one reader and 130 mm for the other: PR and PD, never a mixture."""
    tr = [*reads("RADIOLOGIST 1", ("2021-03-05", 60.0)), *reads("RADIOLOGIST 2", ("2021-03-05", 130.0))]
    tr += [one | {"TREVAL": "INVESTIGATOR"} for one in sums(("2021-03-05", 100.0))]
    result = derived(**BASE | {"TR": tr})
    assert overall(result) == [("2021-03-05", "SD", "COMPUTED")]
    assert overall(result, "COMP") == [
        ("2021-03-05", "SD", "INVESTIGATOR"),
        ("2021-03-05", "PR", "RADIOLOGIST 1"),
        ("2021-03-05", "PD", "RADIOLOGIST 2"),
    ]
    assert overall(result, "RBOR") == overall(result, "COMP")
    assert codes(result) == {"several-evaluators"}
    links = result.datasets["LINEAGE"]
    reading = links[links["ROLE"] == "reading"]
    assert len(reading) == 6
    assert reading["PARENTSEQ"].is_unique


@pytest.mark.parametrize(("name", "word"), [("RADIOLOGIST 1", "PR"), ("radiologist 2", "SD")])
def test_the_study_says_whose_measurements_count(name: str, word: str) -> None:
    """`measured_by` names the evaluator of the sums, the responses and the best response."""
    result = derived(**BASE | {"TR": DIFFER}, study_file=study(response={"measured_by": name}))
    assert overall(result) == [("2021-03-05", word, "COMPUTED")]
    assert row(result.datasets["ADSL"])["BOR"] == word
    assert len(result.datasets["ADTR"]) == 2
    assert codes(result) == set()


def test_an_evaluator_who_measured_nothing_is_a_finding() -> None:
    """A name that nobody has is said, with the evaluator whose measurements count instead."""
    result = derived(**BASE | {"TR": DIFFER}, study_file=study(response={"measured_by": "SOMEBODY"}))
    (finding,) = result.findings
    assert finding.code == "several-evaluators"
    assert "measured_by" in finding.text


def test_lesions_belong_to_their_reader() -> None:
    """A lesion that is a target for one reader may be a non-target, or no lesion at all, for another."""
    one, two = ({"TUEVAL": "INDEPENDENT ASSESSOR", "TUEVALID": f"RADIOLOGIST {n}"} for n in (1, 2))
    tu = [lesion("T1") | one, lesion("T2") | one, lesion("T1") | two]
    tr = reads("RADIOLOGIST 1", ("2021-03-05", 100.0))
    by = {"TREVAL": "INDEPENDENT ASSESSOR", "TREVALID": "RADIOLOGIST 2"}
    tr += [size("T1", "2021-01-01", 50.0) | by, size("T1", "2021-03-05", 20.0) | by]
    result = derived(**BASE | {"TU": tu, "TR": tr})
    assert overall(result, "COMP") == [
        ("2021-03-05", "SD", "RADIOLOGIST 1"),
        ("2021-03-05", "PR", "RADIOLOGIST 2"),
    ]


def test_readers_who_agree_need_no_adjudicator() -> None:
    """The first reader's visits count, dates within a visit's window are the same."""
    result = derived(**BASE | {"TR": AGREE}, study_file=adjudicated())
    assert overall(result) == [("2021-03-05", "PR", "COMPUTED")]
    assert codes(result) == set()


def test_the_adjudicator_decides_by_own_measurements() -> None:
    """PR against SD: the adjudicator's reading counts, and both readers' stand beside it."""
    tr = [*DIFFER, *reads("ADJUDICATOR", ("2021-03-05", 150.0))]
    result = derived(**BASE | {"TR": tr}, study_file=adjudicated())
    assert overall(result) == [("2021-03-05", "PD", "COMPUTED")]
    assert [word for _, word, _ in overall(result, "COMP")] == ["PD", "PR", "SD"]
    assert row(result.datasets["ADTTE"], PARAMCD="PFS")["CNSR"] == 0


def test_the_adjudicator_accepts_a_reader_by_recorded_responses() -> None:
    """Without measurements of the adjudicator's own, the reader with the same responses counts."""
    rows = BASE | {"TR": DIFFER, "RS": said("ADJUDICATOR", ("2021-03-05", "SD"))}
    result = derived(**rows, study_file=adjudicated())
    assert overall(result) == [("2021-03-05", "SD", "COMPUTED")]
    assert overall(result, "RDR") == [("2021-03-05", "SD", "ADJUDICATOR")]


def test_a_disagreement_that_nobody_adjudicated() -> None:
    """No reading counts, and a finding names the subject; nothing is chosen in silence."""
    result = derived(**BASE | {"TR": DIFFER}, study_file=adjudicated())
    assert overall(result) == []
    assert row(result.datasets["ADSL"])["BOR"] == "MISSING"
    assert [(f.code, f.usubjid) for f in result.findings] == [("not-adjudicated", "S1")]


def test_what_readers_must_agree_on_is_a_setting() -> None:
    """PD at one visit and at the next is the same best response, but not the same date of progression."""
    tr = [
        *reads("RADIOLOGIST 1", ("2021-03-05", 60.0), ("2021-05-05", 80.0), ("2021-07-05", 90.0)),
        *reads("RADIOLOGIST 2", ("2021-03-05", 60.0), ("2021-05-05", 65.0), ("2021-07-05", 90.0)),
    ]
    assert codes(derived(**BASE | {"TR": tr}, study_file=adjudicated())) == {"not-adjudicated"}
    result = derived(**BASE | {"TR": tr}, study_file=adjudicated(on=["best_response", "response_date"]))
    assert [word for _, word, _ in overall(result)] == ["PR", "PD", "PD"]


def test_a_subject_whom_one_reader_read() -> None:
    """That reading counts, with a finding; other subjects are adjudicated as ever."""
    tr = [*AGREE, *reads("RADIOLOGIST 2", ("2021-03-05", 50.0), usubjid="S2")]
    rows = BASE | {"TR": tr, "DM": [subject(), subject("S2")]}
    rows["TU"] = [*BASE["TU"], lesion("T1", usubjid="S2"), lesion("T2", usubjid="S2")]
    rows["EX"] = [*BASE["EX"], BASE["EX"][0] | {"USUBJID": "S2"}]
    result = derived(**rows, study_file=adjudicated())
    assert list(result.datasets["ADSL"]["BOR"]) == ["PR", "PR"]
    assert [(f.code, f.usubjid) for f in result.findings] == [("read-once", "S2")]


def test_settings_that_contradict_each_other_are_refused() -> None:
    """`measured_by` beside `adjudication`, one reader, and iRECIST without RECIST 1.1 are no study."""
    for response in (
        {"measured_by": "INVESTIGATOR", "adjudication": READERS},
        {"adjudication": READERS | {"readers": ["RADIOLOGIST 1"]}},
        {"criteria": ["iRECIST"]},
    ):
        with pytest.raises((ValueError, StudyFileError)):
            study(response=response)


def test_recorded_responses_of_readers_have_their_names() -> None:
    """RSEVALID names the reader; `evaluator` can ask for that reader's recorded responses."""
    rows = BASE | {"TR": sums(("2021-03-05", 100.0)), "RS": said("RADIOLOGIST 2", ("2021-03-05", "PD"))}
    result = derived(**rows, study_file=study(response={"evaluator": "RADIOLOGIST 2"}))
    assert overall(result) == [("2021-03-05", "PD", "RADIOLOGIST 2")]
    assert pd.isna(row(result.datasets["ADSL"])["RSPFL"])


def test_evaluators_of_the_study_file_who_did_nothing() -> None:
    """One evaluator measured, and nobody recorded anything: those whom the study names are findings."""
    rows = BASE | {"TR": [one | {"TREVAL": "INVESTIGATOR"} for one in sums(("2021-03-05", 60.0))]}
    named = study(response={"measured_by": "RADIOLOGIST 1"})
    for study_file, names in ((named, 1), (adjudicated(), 2)):
        result = derived(**rows, study_file=study_file)
        assert [f.code for f in result.findings] == ["reader-without-readings"] * names
        assert overall(result) == [("2021-03-05", "PR", "COMPUTED")]
    result = derived(**rows, study_file=study(response={"evaluator": "RADIOLOGIST 1"}))
    assert codes(result) == {"evaluator-without-responses"}
    assert row(result.datasets["ADSL"])["BOR"] == "MISSING"
