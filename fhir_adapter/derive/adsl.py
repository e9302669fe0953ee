"""ADSL: one row per candidate subject; birth, death, last contact, first and last dose.

Last contact is the latest dated evidence that the subject lived, from the sources that the study file lists,
never the date of extraction (rules.md, Time to event).
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.dates import COLLECTED_AT, impute_dates, read_dates
from fhir_adapter.derive.findings import per_subject
from fhir_adapter.derive.numbering import flag, none_for_missing
from fhir_adapter.errors import StudyFileError
from fhir_adapter.study import Study

__all__ = ["add_treatment", "last_contacts", "read_deaths", "read_subjects", "subject_rows"]


def read_subjects(dm: pd.DataFrame, cutoff: dt.date) -> tuple[pd.DataFrame, list[Finding]]:
    """Demographics on USUBJID.

    DM's columns and BIRTH (first possible day), BIRTHMID (for the age), RANDDT (complete dates up to the
    cut-off: a partial date of randomisation is a finding and starts nothing).
    """
    twice = dm.loc[dm["USUBJID"].duplicated(), "USUBJID"]
    findings = per_subject("subject-twice", "DM has two rows of one subject; the first counts", twice)
    subjects = dm.drop_duplicates("USUBJID").set_index("USUBJID").sort_index()
    birth = read_dates(subjects["BRTHDTC"])
    middle = impute_dates(birth, "middle")["DATE"]
    text = "the date of birth is partial: the age counts from the middle of what is known"
    partial = subjects.index[birth["PRECISION"].isin(["Y", "M"])]
    findings += per_subject("partial-birth-date", text, partial)
    randomised = read_dates(subjects["RANDDTC"])
    text = "the date of randomisation is partial and starts nothing"
    partial = subjects.index[randomised["PRECISION"].isin(["Y", "M"])]
    findings += per_subject("partial-randomisation-date", text, partial)
    day = randomised["FIRST"].where(randomised["PRECISION"] == "D")
    late = day > pd.Timestamp(cutoff)
    text = "randomised after the data cut-off: not yet randomised at it"
    findings += per_subject("randomised-after-cut-off", text, subjects.index[late])
    return subjects.assign(BIRTH=birth["FIRST"], BIRTHMID=middle, RANDDT=day.mask(late)), findings


def last_contacts(
    sdtm: dict[str, pd.DataFrame], study: Study, subjects: pd.DataFrame, cutoff: dt.date
) -> tuple[pd.DataFrame, list[Finding]]:
    """The latest evidence that each subject lived, by the cut-off and not after death.

    A partial date counts by its first possible day: whoever was examined in March 2022 lived on its first
    day. What did not happen is no evidence: missed doses, assessments that were not done, a record of death,
    and the declaration that a subject is lost to follow-up.

    Args:
        sdtm: datasets.
        study: `last_contact`, the list of DATASET.VARIABLE; of equal dates the first source counts.
        subjects: on USUBJID, DTHDTC.
        cutoff: the data cut-off.

    Returns:
        On USUBJID: LSTALVDT, LSTDOM, LSTVAR, LSTSEQ, LSTWHOLE (the latest complete date); and findings for
        subjects with records after their death.

    Raises:
        StudyFileError: a source that no dataset has.
    """
    death = read_dates(subjects["DTHDTC"])
    parts = []
    for rank, source in enumerate(study.last_contact):
        dataset, _, variable = source.partition(".")
        if dataset not in sdtm or variable not in sdtm[dataset].columns or not variable.endswith("DTC"):
            raise StudyFileError(f"last_contact names {source}, which is no date of a dataset")
        rows = _happened(dataset, sdtm[dataset])
        read = read_dates(rows[variable])
        part = pd.DataFrame(
            {
                "USUBJID": rows["USUBJID"],
                "DATE": read["FIRST"],
                "RANK": rank,
                "WHOLE": read["PRECISION"] == "D",
                "LSTDOM": dataset,
                "LSTVAR": variable,
                "LSTSEQ": rows[f"{dataset}SEQ"].astype("float64"),
            }
        )
        parts.append(part[part["DATE"].notna() & (part["DATE"] <= pd.Timestamp(cutoff))])
    parts = [part for part in parts if len(part)]
    columns = ["USUBJID", "DATE", "RANK", "WHOLE", "LSTDOM", "LSTVAR", "LSTSEQ"]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    table["DATE"] = pd.to_datetime(table["DATE"])
    late = table["DATE"] > table["USUBJID"].map(death["LAST"])
    findings = [
        Finding(
            "contact-after-death",
            "a record is dated after death and is no evidence of life",
            "derive",
            usubjid=name,
        )
        for name in sorted(set(table.loc[late, "USUBJID"]))
    ]
    # An imputed date is bounded by what others say, not by the first possible day of its own record.
    whole = table[~late & table["WHOLE"].astype(bool)].groupby("USUBJID")["DATE"].max()
    best = (
        table[~late]
        .sort_values(
            ["USUBJID", "DATE", "RANK", "LSTSEQ"], ascending=[True, False, True, True], kind="stable"
        )
        .drop_duplicates("USUBJID")
        .set_index("USUBJID")
        .rename(columns={"DATE": "LSTALVDT"})
    )
    contacts = best[["LSTALVDT", "LSTDOM", "LSTVAR", "LSTSEQ"]].reindex(subjects.index)
    return contacts.assign(LSTWHOLE=pd.to_datetime(whole.reindex(subjects.index))), findings


def _happened(dataset: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that show the subject alive."""
    if dataset == "EX":
        return rows[~rows["EXOCCUR"].eq("N")]
    if dataset == "TR":
        return rows[~rows["TRSTAT"].astype("string").str.upper().eq("NOT DONE").fillna(False).astype(bool)]
    if dataset == "DS":
        term = rows["DSDECOD"].astype("string").str.upper()
        return rows[~(term.str.contains("DEATH|LOST TO FOLLOW", regex=True).fillna(False).astype(bool))]
    return rows


def read_deaths(
    subjects: pd.DataFrame, study: Study, first_dose: pd.Series[Any], alive: pd.Series[Any], cutoff: dt.date
) -> tuple[pd.DataFrame, list[Finding]]:
    """Deaths by the cut-off; a later death is alive at cut-off.

    Args:
        subjects: on USUBJID: DTHDTC, DTHFL, BIRTH.
        study: `imputation.death`.
        first_dose: on USUBJID.
        alive: on USUBJID, last known alive.
        cutoff: the data cut-off.

    Returns:
        On USUBJID: DTHDT, DTHDTF, DTHFL (Y if the death is certainly not after the cut-off), UNDATED (the
        subject died, but when is not known to the day).
    """
    findings: list[Finding] = []
    read = read_dates(subjects["DTHDTC"])
    made = impute_dates(read, study.imputation.death, lower=(subjects["BIRTH"], first_dose, alive))
    end = pd.Timestamp(cutoff)
    late = (made["DATE"] > end) | (read["FIRST"] > end)
    if late.any():
        number = int(late.sum())
        text = f"{number} subjects died after the data cut-off and are alive at it"
        findings.append(Finding("after-cut-off", text, "derive", detail=f"DM: {number}"))
    dead = subjects["DTHFL"].eq("Y") | read["PRECISION"].notna()
    undated = dead & ~late & made["DATE"].isna()
    for name in subjects.index[undated]:
        partial = read.at[name, "PRECISION"] is not None
        what = (
            "the date of death is partial and the study does not impute it"
            if partial
            else "a death has no date"
        )
        code = "partial-death-date" if partial else "death-without-date"
        findings.append(Finding(code, f"{what}: censored at last contact", "derive", usubjid=str(name)))
    early = made["DATE"] < subjects["BIRTH"]
    findings += [
        Finding("death-before-birth", "death is dated before birth", "derive", usubjid=name)
        for name in subjects.index[early]
    ]
    date = made["DATE"].mask(late)
    certain = date.notna() | (undated & (read["LAST"] <= end))
    table = pd.DataFrame(
        {"DTHDT": date, "DTHDTF": none_for_missing(made["FLAG"].mask(late)), "UNDATED": undated}
    )
    table["DTHFL"] = flag(certain)
    return table, findings


def add_treatment(
    subjects: pd.DataFrame, exposure: pd.DataFrame, study: Study
) -> tuple[pd.DataFrame, list[Finding]]:
    """Adds TRTSDT, TRTEDT, the EXSEQ of both, START and TRT01A to the subjects.

    START is the day that the baseline window ends on: the randomisation where the study counts from it, else
    the first dose, else the randomisation of a subject who was never treated.
    """
    given = exposure[exposure["IS_GIVEN"] & exposure["ASTDT"].notna()]
    first = given.sort_values(["USUBJID", "ASTDT", "EXSEQ"]).drop_duplicates("USUBJID").set_index("USUBJID")
    last = (
        given.sort_values(["USUBJID", "AENDT", "ASTDT", "EXSEQ"])
        .drop_duplicates("USUBJID", keep="last")
        .set_index("USUBJID")
    )
    subjects = subjects.assign(
        TRTSDT=pd.to_datetime(first["ASTDT"].reindex(subjects.index)),
        TRTEDT=pd.to_datetime(last["AENDT"].reindex(subjects.index)),
        FIRSTSEQ=first["EXSEQ"].reindex(subjects.index).astype("float64"),
        LASTSEQ=last["EXSEQ"].reindex(subjects.index).astype("float64"),
    )
    randomised = study.response.best.reference == "randomisation" or any(
        endpoint.start == "randomisation" for endpoint in study.endpoints
    )
    order = ["RANDDT", "TRTSDT"] if randomised else ["TRTSDT", "RANDDT"]
    subjects["START"] = subjects[order[0]].fillna(subjects[order[1]])
    findings = []
    if randomised:
        without = subjects.index[subjects["RANDDT"].isna() & subjects["TRTSDT"].notna()]
        text = "treated without a date of randomisation: no endpoint that counts from it"
        findings += per_subject("not-randomised", text, without)
    arms = {arm.value: arm.id for arm in study.treatment.arms}
    named = subjects["ACTARM"].where(subjects["ACTARM"].notna(), subjects["ARM"])
    subjects["TRT01A"] = none_for_missing(named.map(arms))
    unknown = named.notna() & subjects["TRT01A"].isna()
    if arms and unknown.any():
        findings.append(
            Finding(
                "unknown-arm",
                f"{int(unknown.sum())} subjects are in an arm that the study file does not name",
                "derive",
                detail=", ".join(sorted(set(named[unknown].astype(str)))),
            )
        )
    return subjects, findings


def subject_rows(
    subjects: pd.DataFrame,
    *,
    baseline: pd.Series[Any],
    adrs: pd.DataFrame,
    best_change: pd.Series[Any],
    cycles: pd.Series[Any],
    ds: pd.DataFrame,
) -> pd.DataFrame:
    """Rows of ADSL without the study's characteristics, exclusions and analysis sets.

    Args:
        subjects: on USUBJID, everything that the functions above give.
        baseline: on USUBJID, BASEDT.
        adrs: ADRS.
        best_change: on USUBJID, the best percent change.
        cycles: on USUBJID, the number of cycles.
        ds: DS, for the end of study.
    """
    at = subjects.index
    base = pd.to_datetime(baseline.reindex(at))
    when = base.fillna(subjects["START"])
    birth = subjects["BIRTHMID"]
    had_birthday = (when.dt.month * 100 + when.dt.day) >= (birth.dt.month * 100 + birth.dt.day)
    age = when.dt.year - birth.dt.year - (~had_birthday).astype("int64")
    end = subjects["DTHDT"].fillna(subjects["LSTALVDT"])
    best = adrs[adrs["PARAMCD"] == "BOR"].set_index("USUBJID")
    response = none_for_missing(best["AVALC"].reindex(at))
    visits = adrs[adrs["PARAMCD"] == "OVR"].groupby("USUBJID").size()
    number = visits.reindex(at).fillna(0).where(subjects["START"].notna())
    given = cycles.reindex(at).fillna(0)
    table = pd.DataFrame(
        {
            "STUDYID": subjects["STUDYID"],
            "ASEQ": 1,
            "SUBJID": subjects["SUBJID"],
            "SITEID": subjects["SITEID"],
            "AGE": age,
            "SEX": subjects["SEX"],
            "TRT01A": subjects["TRT01A"],
            "RANDDT": subjects["RANDDT"],
            "TRTSDT": subjects["TRTSDT"],
            "TRTEDT": subjects["TRTEDT"],
            "BASEDT": base,
            "DTHDT": subjects["DTHDT"],
            "DTHDTF": subjects["DTHDTF"],
            "DTHFL": subjects["DTHFL"],
            "LSTALVDT": subjects["LSTALVDT"],
            "RISKEDT": subjects["RISKEDT"],
            "FUPDUR": (end - base).dt.days,
            "CYCLES": given,
            "NASSESS": number,
            "EOSSTT": _end_of_study(subjects, ds),
            "BOR": response,
            "BORDT": pd.to_datetime(best["ADT"].reindex(at)),
            "RSPFL": flag(response.isin(["CR", "PR"])),
            "DCFL": flag(response.isin(["CR", "PR", "SD", "NON-CR/NON-PD"])),
            "CBFL": flag(adrs[adrs["PARAMCD"] == "CB"].set_index("USUBJID")["AVALC"].reindex(at).eq("Y")),
            "BESTPCHG": best_change.reindex(at).astype("float64"),
            "SRCDOM": "DM",
            "SRCSEQ": subjects["DMSEQ"],
        },
        index=at,
    )
    return table.rename_axis("USUBJID").reset_index()


def _end_of_study(subjects: pd.DataFrame, ds: pd.DataFrame) -> pd.Series[Any]:
    """DEATH, else the last disposition event, else the status that ResearchSubject has."""
    rows = ds[ds["DSCAT"] == "DISPOSITION EVENT"]
    dates = read_dates(rows[COLLECTED_AT["DS"]])["FIRST"]
    last = (
        rows.assign(DATE=dates)
        .sort_values(["USUBJID", "DATE", "DSSEQ"], na_position="first", kind="stable")
        .drop_duplicates("USUBJID", keep="last")
        .set_index("USUBJID")["DSDECOD"]
        .reindex(subjects.index)
        .astype("object")
    )
    status = last.where(last.notna(), subjects["SUBJSTAT"])
    dead = subjects["DTHDT"].notna() | subjects["UNDATED"] | subjects["DTHFL"].eq("Y")
    return none_for_missing(status.mask(dead, "DEATH"))
