"""The derive stage: from SDTM-like rows to ADSL, ADTR, ADRS, ADTTE, ADAE, ADEX and their lineage.

Nothing dated after the cut-off counts. Every candidate has a row in ADSL; who is analysed is decided last,
when all else is derived, so that an exclusion may ask for anything.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.cohort import FlowStep, flag_analysis_sets, flow_steps, select_analysed
from fhir_adapter.datasets import conform, empty, metadata
from fhir_adapter.derive.adae import actions_of_administrations, adae_lineage, adverse_events, risk_ends
from fhir_adapter.derive.adex import adex_lineage, exposure_by_drug, read_exposure, with_levels
from fhir_adapter.derive.adjudication import adjudicate, select_readings
from fhir_adapter.derive.adrs import (
    COMPUTED,
    Timing,
    adrs_lineage,
    after_baseline,
    by_visit,
    first_progression,
    grade_visits,
    name_visits,
    other_readings,
    reading_lineage,
    recorded_responses,
    select_responses,
    with_best_responses,
)
from fhir_adapter.derive.adsl import add_treatment, last_contacts, read_deaths, read_subjects, subject_rows
from fhir_adapter.derive.adtr import adtr_lineage, best_change, sums_of_diameters
from fhir_adapter.derive.adtte import Facts, adtte_lineage, times_to_event
from fhir_adapter.derive.baseline import Graded, choose_visits, unmeasurable_targets
from fhir_adapter.derive.characteristics import add_characteristics
from fhir_adapter.derive.dates import apply_cut_off, complete_dates, read_dates
from fhir_adapter.derive.evaluators import absent_evaluators, choose_evaluator, evaluators
from fhir_adapter.derive.numbering import finish
from fhir_adapter.derive.sequences import impossible_sequences
from fhir_adapter.derive.visits import assign_visits, impossible_scans, read_assessments
from fhir_adapter.lineage import Link
from fhir_adapter.lineage import frame as lineage_frame
from fhir_adapter.study import Study

__all__ = ["Derived", "derive"]


@dataclass
class Derived:
    """What the derive stage makes.

    Attributes:
        datasets: ADSL ADTR ADRS ADTTE ADAE ADEX LINEAGE, in the metadata's form.
        flow: candidates, treated, each exclusion, analysed.
        findings: what deserves a look.
        counts: what was left out for a reason that is no finding (`visits-before-baseline`).
    """

    datasets: dict[str, pd.DataFrame]
    flow: list[FlowStep]
    findings: list[Finding]
    counts: dict[str, int] = field(default_factory=dict)


def derive(sdtm: dict[str, pd.DataFrame], study: Study, *, cutoff: dt.date) -> Derived:
    """Derives the analysis datasets.

    Args:
        sdtm: DM MH SC TU TR RS EX CM AE PR SV DS, in the metadata's form; a missing one counts as empty.
        study: the study definition.
        cutoff: the data cut-off; nothing dated later counts, and a later death is alive at it.

    Raises:
        StudyFileError: the study file names a dataset, variable, endpoint setting or source that is not
            there.
    """
    names = [name for name, dataset in metadata().items() if dataset.model == "SDTM"]
    cut, findings = apply_cut_off(
        {name: sdtm[name] if name in sdtm else empty(name) for name in names}, cutoff
    )

    subjects, found = read_subjects(cut["DM"], cutoff)
    findings += found
    findings += _without_demographics(cut, subjects)
    cut = {
        name: rows
        if rows.empty or name == "DM"
        else rows[rows["USUBJID"].isin(subjects.index)].reset_index(drop=True)
        for name, rows in cut.items()
    }
    contacts, found = last_contacts(cut, study, subjects, cutoff)
    findings += found
    subjects = subjects.join(contacts)
    exposure, found = read_exposure(cut["EX"], study, subjects["BIRTH"], subjects["LSTWHOLE"], cutoff)
    findings += found
    exposure = with_levels(exposure, cut["SC"], study)
    subjects, found = add_treatment(subjects, exposure, study)
    findings += found
    deaths, found = read_deaths(subjects, study, subjects["TRTSDT"], subjects["LSTALVDT"], cutoff)
    findings += found
    # DM's own death flag is replaced by that of the cut-off.
    subjects = subjects.drop(columns="DTHFL").join(deaths)
    # A contact known to the month may begin after a death that was imputed within that month.
    subjects["LSTALVDT"] = subjects["LSTALVDT"].mask(
        subjects["LSTALVDT"] > subjects["DTHDT"], subjects["DTHDT"]
    )
    findings += _doses_after_death(exposure, subjects["DTHDT"])
    findings += impossible_sequences(cut, subjects)

    readings, found = _readings(cut, study, subjects)
    findings += found
    subjects["BASEDT"] = pd.NaT
    recorded, found = recorded_responses(cut["RS"], study, _timing(subjects, study))
    findings += found
    responses = {name: grade_visits(reading, study) for name, reading in readings.items()}
    reader, found = _chosen(readings, responses, recorded, evaluators(cut["TR"]), study)
    findings += found
    graded = select_readings(readings, reader)
    subjects["BASEDT"] = pd.to_datetime(graded.baseline["BASEDT"].reindex(subjects.index))
    timing = _timing(subjects, study)
    counted = select_responses(responses, reader)
    read = other_readings(readings, responses, reader) if len(readings) > 1 else None
    visit_rows = by_visit(counted, name_visits(recorded, graded, study, timing), graded, study, timing, read)
    if study.response.evaluator != COMPUTED and not visit_rows["PARAMCD"].eq("OVR").any():
        text = "nobody of the name that `evaluator` gives recorded a response: no response counts"
        findings.append(
            Finding("evaluator-without-responses", text, "derive", detail=study.response.evaluator)
        )
    adrs = with_best_responses(visit_rows, study, timing)
    adtr = sums_of_diameters(
        counted, graded, subjects["STUDYID"], first_progression(visit_rows), subjects["DTHDT"]
    )
    adex = exposure_by_drug(exposure, study, subjects["STUDYID"])
    subjects["RISKEDT"] = risk_ends(subjects, study, pd.Timestamp(cutoff))
    acted = actions_of_administrations(exposure)
    adae, found = adverse_events(cut["AE"], study, subjects, acted)
    findings += found

    base_rows = adtr[adtr["ABLFL"].eq("Y")].set_index("USUBJID")["ASEQ"]
    subjects["BASESEQ"] = base_rows.reindex(subjects.index).astype("float64")
    therapy, found = _new_therapy(cut["CM"], subjects["TRTSDT"])
    findings += found
    subjects = subjects.join(therapy)
    subjects["ENDED"] = _treatment_ended(subjects, exposure, cut["DS"], study)
    facts = Facts(subjects, adrs)
    adtte, found = times_to_event(facts, study)
    findings += found

    cycles = adex[(adex["PARAMCD"] == "CYCLES") & adex["EXTRT"].isna()].set_index("USUBJID")["AVAL"]
    adsl = subject_rows(
        subjects,
        baseline=subjects["BASEDT"],
        adrs=adrs,
        best_change=best_change(adtr),
        cycles=cycles,
        ds=cut["DS"],
    )
    made = {"ADTR": adtr, "ADRS": adrs, "ADTTE": adtte, "ADAE": adae, "ADEX": adex}
    links = [
        *adtr_lineage(adtr, graded),
        *adrs_lineage(adrs, adtr, graded),
        *reading_lineage(adrs, readings),
        *adtte_lineage(adtte, facts),
        *adae_lineage(adae, cut["AE"], acted),
        *_subject_links(subjects, adrs),
    ]
    lineage = lineage_frame(links, adex_lineage(adex, exposure))
    datasets = {name: finish(name, rows) for name, rows in made.items()}
    others = {**cut, **datasets}
    adsl, found = add_characteristics(conform("ADSL", adsl), others, study.baseline.characteristics)
    findings += found
    refused = _refused(subjects, study).reindex(adsl["USUBJID"]).to_numpy()
    chosen = select_analysed({**others, "ADSL": adsl}, study.cohort, pd.Series(refused, index=adsl.index))
    adsl = adsl.assign(EXCLID=chosen["EXCLID"], ANALFL=chosen["ANALFL"])
    flags = flag_analysis_sets({**others, "ADSL": adsl}, study.analysis_sets)
    adsl = conform("ADSL", adsl.assign(**{name: flags[name] for name in flags.columns}))
    datasets = {"ADSL": adsl, **datasets, "LINEAGE": conform("LINEAGE", lineage)}
    counts = {"visits-before-baseline": graded.earlier}
    return Derived(datasets, flow_steps(adsl, study.cohort), findings, counts)


def _without_demographics(cut: dict[str, pd.DataFrame], subjects: pd.DataFrame) -> list[Finding]:
    """Rows of subjects that DM does not have: they cannot be derived."""
    numbers = {name: int((~rows["USUBJID"].isin(subjects.index)).sum()) for name, rows in cut.items()}
    return [
        Finding(
            "subject-without-demographics",
            f"{number} rows of {name} are of nobody in DM",
            "derive",
            detail=name,
        )
        for name, number in numbers.items()
        if number
    ]


def _readings(
    cut: dict[str, pd.DataFrame], study: Study, subjects: pd.DataFrame
) -> tuple[dict[str, Graded], list[Finding]]:
    """Each evaluator's assessments with their visits and baseline; one without a name if there is one alone."""
    names = evaluators(cut["TR"])
    readings: dict[str, Graded] = {}
    findings: list[Finding] = []
    for name in names if len(names) > 1 else [""]:
        data = read_assessments(cut["TU"], cut["TR"], study, subjects, name or None)
        data.tr["VISIT"] = assign_visits(data.tr, study.response.visit_window_days, subjects["START"])
        readings[name] = choose_visits(data, subjects["START"], study.response.baseline_window_days)
        scans = impossible_scans(data.tr, subjects["BIRTH"], subjects["DTHDT"])
        found = [*data.findings, *scans, *readings[name].findings, *unmeasurable_targets(readings[name])]
        findings += [finding for finding in found if finding not in findings]
    return readings, findings


def _chosen(
    readings: dict[str, Graded],
    responses: dict[str, pd.DataFrame],
    recorded: pd.DataFrame,
    names: list[str],
    study: Study,
) -> tuple[pd.Series[Any], list[Finding]]:
    """On USUBJID the evaluator whose reading counts."""
    subjects = sorted(set().union(*(reading.visits["USUBJID"] for reading in readings.values())))
    if len(readings) == 1:
        return pd.Series(next(iter(readings)), index=subjects, dtype="object"), absent_evaluators(
            names, study
        )
    rules = study.response.adjudication
    if rules is not None:
        later = {name: after_baseline(responses[name], readings[name]) for name in readings}
        return adjudicate(readings, later, recorded, study, rules)
    name, findings = choose_evaluator(list(readings), study)
    return pd.Series(name, index=subjects, dtype="object"), findings


def _timing(subjects: pd.DataFrame, study: Study) -> Timing:
    reference = {"baseline": "BASEDT", "first_dose": "TRTSDT", "randomisation": "RANDDT"}[
        study.response.best.reference
    ]
    return Timing(
        study_id=subjects["STUDYID"],
        start=subjects["START"],
        baseline=subjects["BASEDT"],
        reference=subjects[reference],
        death=subjects["DTHDT"],
        birth=subjects["BIRTH"],
        alive=subjects["LSTWHOLE"],
    )


def _doses_after_death(exposure: pd.DataFrame, death: pd.Series[Any]) -> list[Finding]:
    late = exposure["IS_GIVEN"] & (exposure["ASTDT"] > exposure["USUBJID"].map(death))
    return [
        Finding("dose-after-death", "a dose is dated after death", "derive", usubjid=name)
        for name in sorted(set(exposure.loc[late, "USUBJID"]))
    ]


def _new_therapy(cm: pd.DataFrame, first_dose: pd.Series[Any]) -> tuple[pd.DataFrame, list[Finding]]:
    """The first other anti-cancer medication that started after the first dose: NEWDT, NEWSEQ on USUBJID.

    Only complete dates count; a partial date that may lie after the first dose is a finding.
    """
    rows = cm[cm["CMCAT"] == "ANTICANCER"]
    first = rows["USUBJID"].map(first_dose)
    read = read_dates(rows["CMSTDTC"])
    rows = rows.assign(NEWDT=complete_dates(rows["CMSTDTC"]))
    partial = rows["NEWDT"].isna() & ((read["LAST"] > first) | read["LAST"].isna()) & first.notna()
    findings = [
        Finding(
            "therapy-without-date",
            "an anti-cancer medication without a complete date may be a new therapy: it does not censor",
            "derive",
            usubjid=name,
        )
        for name in sorted(set(rows.loc[partial, "USUBJID"]))
    ]
    later = rows[rows["NEWDT"] > first].sort_values(["USUBJID", "NEWDT", "CMSEQ"]).drop_duplicates("USUBJID")
    table = later.set_index("USUBJID")[["NEWDT", "CMSEQ"]].rename(columns={"CMSEQ": "NEWSEQ"})
    table = table.reindex(first_dose.index)
    return table.assign(
        NEWDT=pd.to_datetime(table["NEWDT"]), NEWSEQ=table["NEWSEQ"].astype("float64")
    ), findings


def _treatment_ended(
    subjects: pd.DataFrame, exposure: pd.DataFrame, ds: pd.DataFrame, study: Study
) -> pd.Series[bool]:
    """Whether treatment ended by the cut-off.

    It did if the subject died, started another anti-cancer therapy, has a disposition event, all study drugs
    that were given were stopped, or lived more than a cycle's length after the last dose.
    """
    given = exposure[exposure["IS_GIVEN"]].groupby("USUBJID")["EXTRT"].nunique()
    stopped = exposure[exposure["EXOCCUR"] == "S"].groupby("USUBJID")["EXTRT"].nunique()
    all_stopped = given.reindex(subjects.index) == stopped.reindex(subjects.index)
    cycle = pd.to_timedelta(study.treatment.cycle_length_days, unit="D")
    left = subjects.index.isin(ds.loc[ds["DSCAT"] == "DISPOSITION EVENT", "USUBJID"])
    ended: pd.Series[bool] = (
        subjects["DTHDT"].notna()
        | subjects["UNDATED"]
        | subjects["NEWDT"].notna()
        | left
        | all_stopped
        | (subjects["LSTALVDT"] > subjects["TRTEDT"] + cycle)
    )
    return ended


def _refused(subjects: pd.DataFrame, study: Study) -> pd.Series[bool]:
    """Subjects who denied or withdrew consent, or did not give it where the study requires it."""
    refused = subjects["CONSENT"].isin(["deny", "withdrawn"])
    if study.study.consent.policy == "required":
        refused |= ~subjects["CONSENT"].eq("permit")
    return refused


def _subject_links(subjects: pd.DataFrame, adrs: pd.DataFrame) -> list[Link]:
    """ADSL leads to DM, first and last dose, the baseline sum, the last contact and the best response."""
    links: list[Link] = []
    parents = (
        ("DM", "DMSEQ", "source"),
        ("EX", "FIRSTSEQ", "start"),
        ("EX", "LASTSEQ", "last"),
        ("ADTR", "BASESEQ", "baseline"),
    )
    for dataset, column, role in parents:
        has = subjects[subjects[column].notna()]
        links += [(name, "ADSL", 1, dataset, int(seq), role) for name, seq in has[column].items()]  # type: ignore[misc]
    contact = subjects[subjects["LSTSEQ"].notna()]
    links += [
        (name, "ADSL", 1, domain, int(seq), "last")
        for name, domain, seq in zip(contact.index, contact["LSTDOM"], contact["LSTSEQ"], strict=True)
    ]
    best = adrs[adrs["PARAMCD"] == "BOR"]
    links += [
        (name, "ADSL", 1, "ADRS", int(seq), "best")
        for name, seq in best[["USUBJID", "ASEQ"]].itertuples(index=False)
    ]
    return links
