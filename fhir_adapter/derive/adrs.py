"""ADRS: response by visit, the investigator's responses, best response and objective response.

Responses come from measurements by RECIST 1.1 (`derive.recist`) or, where the study says so, from the
evaluator who recorded them. Sources: Eisenhauer 2009, 4.4; rules.md, Best overall response.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.baseline import NO_BASELINE, Graded
from fhir_adapter.derive.dates import impute_dates, read_dates
from fhir_adapter.derive.evaluators import evaluator_names
from fhir_adapter.derive.immune import IMMUNE_PARAMETERS, immune_responses
from fhir_adapter.derive.numbering import flag, number, study_day
from fhir_adapter.derive.recist import (
    best_overall_response,
    confirmed_best_overall_response,
    confirmed_objective_response,
    objective_response,
    visit_responses,
)
from fhir_adapter.lineage import Link
from fhir_adapter.study import Study

__all__ = [
    "COMPUTED",
    "Timing",
    "adrs_lineage",
    "after_baseline",
    "by_visit",
    "first_progression",
    "grade_visits",
    "name_visits",
    "other_readings",
    "reading_lineage",
    "recorded_responses",
    "select_responses",
    "with_best_responses",
]

#: The evaluator whose responses come from measurements.
COMPUTED: Final = "COMPUTED"

_RESPONSES: Final = ("CR", "PR", "SD", "NON-CR/NON-PD", "PD", "NE", "ND")
_PARAM: Final = {
    "OVR": "Overall response by visit",
    "TRG": "Target response by visit",
    "NTRG": "Non-target response by visit",
    "NEWL": "New lesion by visit",
    "INV": "Overall response by visit as the investigator recorded it",
    "RDR": "Overall response by visit as another evaluator recorded it",
    "COMP": "Overall response by visit as computed, beside the response that counts",
    "BOR": "Best overall response",
    "CBOR": "Best overall response, confirmed",
    "RBOR": "Best overall response by each evaluator's own measurements",
    "RSP": "Objective response",
    "CRSP": "Objective response, confirmed",
    "CB": "Clinical benefit",
    **IMMUNE_PARAMETERS,
}


@dataclass(frozen=True)
class Timing:
    """Dates of each subject, on USUBJID: what the responses are placed against.

    Attributes:
        study_id: STUDYID.
        start: the first dose (or randomisation); responses after it count.
        baseline: BASEDT.
        reference: the date the window of SD starts from.
        death: the day of death by the cut-off.
        birth: first possible day of birth.
        alive: last known alive.
    """

    study_id: pd.Series[Any]
    start: pd.Series[Any]
    baseline: pd.Series[Any]
    reference: pd.Series[Any]
    death: pd.Series[Any]
    birth: pd.Series[Any]
    alive: pd.Series[Any]


def grade_visits(graded: Graded, study: Study) -> pd.DataFrame:
    """RECIST 1.1 responses of all visits of `graded`, without the stand-ins for missing baselines."""
    columns = ["USUBJID", "TRLNKID", "VISIT", "ADT", "TRTESTCD", "TRSTRESN", "TRSTRESC"]
    rows = visit_responses(
        graded.tu[["USUBJID", "TULNKID", "TUSTRESC", "NODAL"]],
        graded.tr[columns],
        sustained_pr=study.response.sustained_pr,
        reappearance_is_pd=study.response.reappearance_is_pd,
    )
    return rows[rows["VISIT"] != NO_BASELINE].reset_index(drop=True)


def after_baseline(responses: pd.DataFrame, graded: Graded) -> pd.DataFrame:
    """The responses of visits after baseline."""
    base = graded.visits.loc[graded.visits["ABLFL"], ["USUBJID", "VISIT"]]
    is_base = pd.MultiIndex.from_frame(responses[["USUBJID", "VISIT"]]).isin(pd.MultiIndex.from_frame(base))
    return responses[~is_base]


def select_responses(responses: dict[str, pd.DataFrame], chosen: pd.Series[Any]) -> pd.DataFrame:
    """Of each subject the responses of the evaluator whose reading counts.

    Args:
        responses: per evaluator what `grade_visits` returned.
        chosen: on USUBJID the evaluator.
    """
    parts = [
        rows[rows["USUBJID"].map(chosen).eq(name).fillna(False).astype(bool)]
        for name, rows in responses.items()
    ]
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]


def other_readings(
    readings: dict[str, Graded], responses: dict[str, pd.DataFrame], chosen: pd.Series[Any]
) -> pd.DataFrame:
    """Overall responses after baseline of every evaluator, whether or not theirs count.

    Returns:
        USUBJID, VISIT, ADT, OVRLRESP, RULE, EVAL, CHOSEN (whether this reading of the subject counts).
    """
    parts = []
    for name, reading in readings.items():
        rows = after_baseline(responses[name], reading)
        counts = rows["USUBJID"].map(chosen).eq(name).fillna(False).astype(bool)
        parts.append(rows[["USUBJID", "VISIT", "ADT", "OVRLRESP", "RULE"]].assign(EVAL=name, CHOSEN=counts))
    return pd.concat(parts, ignore_index=True)


def recorded_responses(rs: pd.DataFrame, study: Study, timing: Timing) -> tuple[pd.DataFrame, list[Finding]]:
    """Overall responses as recorded, by evaluator (RSEVALID, else RSEVAL).

    Returns:
        USUBJID, VISIT, ADT, AVALC, EVAL, RSSEQ; and findings for responses without a date or that no one
        knows.
    """
    found: list[Finding] = []
    rows = rs[rs["RSTESTCD"].isna() | rs["RSTESTCD"].isin(["OVRLRESP", "OVRL"])]
    rows = rows[rows["RSSTRESC"].notna() & rows["USUBJID"].isin(timing.start.index)]
    unknown = ~rows["RSSTRESC"].isin(_RESPONSES)
    if unknown.any():
        texts = ", ".join(sorted(set(rows.loc[unknown, "RSSTRESC"].astype(str))))
        found.append(
            Finding(
                "unknown-response",
                f"{int(unknown.sum())} recorded responses are none of RECIST's",
                "derive",
                detail=texts,
            )
        )
    rows = rows[~unknown]
    subject = rows["USUBJID"]
    dates = impute_dates(
        read_dates(rows["RSDTC"]),
        study.imputation.response,
        lower=(subject.map(timing.birth),),
        upper=(subject.map(timing.alive),),
    )["DATE"]
    if dates.isna().any():
        number_ = int(dates.isna().sum())
        found.append(
            Finding("response-without-date", f"{number_} recorded responses have no complete date", "derive")
        )
    table = pd.DataFrame(
        {
            "USUBJID": subject,
            "VISIT": rows["VISIT"],
            "ADT": dates,
            "AVALC": rows["RSSTRESC"],
            "EVAL": evaluator_names(rows, "RS"),
            "RSSEQ": rows["RSSEQ"],
        }
    )
    return table[dates.notna()].reset_index(drop=True), found


def name_visits(recorded: pd.DataFrame, graded: Graded, study: Study, timing: Timing) -> pd.DataFrame:
    """The recorded responses after baseline (or the start), under the names of the visits that they belong to.

    A recorded response takes the name of the visit whose last scan is nearest, at most `visit_window_days`
    away; else it keeps its own.
    """
    subject = recorded["USUBJID"]
    after = recorded["ADT"] > subject.map(timing.baseline).fillna(subject.map(timing.start))
    table = recorded[after].reset_index(drop=True)
    visits = graded.visits[~graded.visits["ABLFL"]]
    if table.empty or visits.empty:
        return table
    near = pd.merge_asof(
        table[["USUBJID", "ADT"]].reset_index().sort_values(["ADT", "index"]),
        visits[["USUBJID", "LAST", "VISIT"]].sort_values(["LAST", "USUBJID"]),
        left_on="ADT",
        right_on="LAST",
        by="USUBJID",
        direction="nearest",
        tolerance=pd.Timedelta(days=study.response.visit_window_days),
    ).set_index("index")["VISIT"]
    near = near.reindex(table.index)
    table["VISIT"] = near.where(near.notna(), table["VISIT"])
    return table


def _is_investigator(evaluator: pd.Series[Any]) -> pd.Series[bool]:
    """A response without an evaluator is the treating clinician's."""
    return evaluator.isna() | evaluator.astype("string").str.upper().str.startswith("INVESTIGATOR").fillna(
        False
    ).astype(bool)


def by_visit(
    responses: pd.DataFrame,
    recorded: pd.DataFrame,
    graded: Graded,
    study: Study,
    timing: Timing,
    others: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Rows of ADRS by visit, not yet numbered: OVR, TRG, NTRG, NEWL, INV, RDR and COMP.

    OVR is the response that counts: computed from measurements, or that of the evaluator whom the study names
    (then the computed one is COMP). INV is the investigator's, RDR any other evaluator's. Where several
    evaluators measured, COMP is also what was computed from each one's measurements, with the evaluator's name.

    Args:
        responses: what `grade_visits` returned, of each subject the reading that counts.
        recorded: what `name_visits` returned.
        graded: the readings that count.
        study: evaluator.
        timing: dates of each subject.
        others: what `other_readings` returned; None where one evaluator measured.
    """
    visits = after_baseline(responses, graded)
    computed = study.response.evaluator == COMPUTED
    parts = []
    for code, column, source in (
        ("OVR" if computed else "COMP", "OVRLRESP", "AVALC"),
        ("TRG", "TRGRESP", "AVAL"),
        ("NTRG", "NTRGRESP", "TRSTRESC"),
        ("NEWL", "NEWLPROG", "TRSTRESC"),
    ):
        rows = visits[visits[column].notna()]
        parts.append(
            pd.DataFrame(
                {
                    "USUBJID": rows["USUBJID"],
                    "PARAMCD": code,
                    "VISIT": rows["VISIT"],
                    "ADT": rows["ADT"],
                    "AVALC": rows[column],
                    "EVAL": COMPUTED,
                    "RULE": rows["RULE"] if column == "OVRLRESP" else None,
                    "SRCDOM": "ADTR" if code == "TRG" else "TR" if code in {"NTRG", "NEWL"} else None,
                    "SRCVAR": source if code != "OVR" else None,
                    "RSSEQ": np.nan,
                }
            )
        )
    if others is not None:
        parts.append(
            others.rename(columns={"OVRLRESP": "AVALC"})
            .drop(columns="CHOSEN")
            .assign(PARAMCD="COMP", SRCDOM=None, SRCVAR=None, RSSEQ=np.nan)[others["OVRLRESP"].notna()]
        )
    investigator = _is_investigator(recorded["EVAL"])
    wanted = recorded["EVAL"].eq(study.response.evaluator)
    if study.response.evaluator.upper().startswith("INVESTIGATOR"):
        wanted = investigator
    for code, chosen in (
        ("INV", investigator),
        ("RDR", ~investigator),
        ("OVR", wanted if not computed else None),
    ):
        if chosen is None:
            continue
        rows = recorded[chosen]
        parts.append(
            rows.assign(PARAMCD=code, RULE="RECORDED", SRCDOM="RS", SRCVAR="RSSTRESC").astype(
                {"RSSEQ": "float64"}
            )
        )
    filled = [part.astype(object) for part in parts if len(part)]
    columns = ["USUBJID", "PARAMCD", "VISIT", "ADT", "AVALC", "EVAL", "RULE", "SRCDOM", "SRCVAR", "RSSEQ"]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns, dtype=object)
    table = table[columns].astype({"RSSEQ": "float64"})
    table["ADT"] = pd.to_datetime(table["ADT"])
    subject = table["USUBJID"]
    progression, death = first_progression(table), timing.death
    early = subject.map(progression).isna() | (table["ADT"] <= subject.map(progression))
    alive = subject.map(death).isna() | (table["ADT"] <= subject.map(death))
    counts = early & alive & table["PARAMCD"].isin(["OVR", "TRG", "NTRG", "NEWL"])
    table["ANL01FL"] = flag(counts)
    if study.response.irecist:
        immune = immune_responses(graded, study, timing.start, timing.death)
        table = pd.concat([table.astype(object), immune.astype(object)], ignore_index=True)
        table = table.astype({"RSSEQ": "float64"})
        table["ADT"] = pd.to_datetime(table["ADT"])
    return table


def first_progression(rows: pd.DataFrame) -> pd.Series[Any]:
    """On USUBJID: the day of the first PD among the overall responses that count (PARAMCD OVR)."""
    progressions = rows[(rows["PARAMCD"] == "OVR") & (rows["AVALC"] == "PD")]
    return progressions.groupby("USUBJID")["ADT"].min()


def with_best_responses(rows: pd.DataFrame, study: Study, timing: Timing) -> pd.DataFrame:
    """Adds BOR, CBOR, RSP and CRSP for every subject with a start date, and numbers all rows.

    Where several evaluators measured, RBOR is each one's best response, of the subjects whom they read.

    Returns:
        The columns of ADRS with ASEQ; SRCSEQ of a best response is the ASEQ of the visit that made it.
    """
    best = study.response.best
    subjects = timing.start.dropna().index
    reference = pd.DataFrame({"USUBJID": subjects, "ADT": timing.reference.reindex(subjects).to_numpy()})
    used = rows[(rows["PARAMCD"] == "OVR") & rows["ANL01FL"].eq("Y")]
    rs = used[["USUBJID", "ADT", "AVALC"]]
    window = {"ref_start_window": best.ref_start_window, "missing_as_ne": best.missing_as_ne}
    confirmation = {"ref_confirm": best.ref_confirm, "max_nr_ne": best.max_nr_ne, "accept_sd": best.accept_sd}
    confirmed = confirmed_best_overall_response(rs, reference, **window, **confirmation)  # type: ignore[arg-type]
    unconfirmed = best_overall_response(rs, reference, **window)  # type: ignore[arg-type]
    results = {
        "BOR": confirmed if best.confirmed else unconfirmed,
        "CBOR": confirmed,
        "RSP": objective_response(rs, reference),
        "CRSP": confirmed_objective_response(rs, reference, **confirmation),  # type: ignore[arg-type]
    }
    if study.response.clinical_benefit_days is not None:
        results["CB"] = _clinical_benefit(rs, results["RSP"], reference, study.response.clinical_benefit_days)
    parts = [
        result.assign(
            PARAMCD=code,
            EVAL=study.response.evaluator,
            RULE="CONFIRMED"
            if code in {"CBOR", "CRSP"} or (code == "BOR" and best.confirmed)
            else "UNCONFIRMED",
            ANL01FL="Y",
            SRCDOM="ADRS",
            SRCVAR="AVALC",
        )
        for code, result in results.items()
        if len(result)
    ]
    read = rows[(rows["PARAMCD"] == "COMP") & rows["EVAL"].ne(COMPUTED)]
    read = read[~(read["ADT"] > read["USUBJID"].map(timing.death))]
    for name, own in read.groupby("EVAL"):
        made = (
            confirmed_best_overall_response(own, reference, **window, **confirmation)  # type: ignore[arg-type]
            if best.confirmed
            else best_overall_response(own, reference, **window)  # type: ignore[arg-type]
        )
        made = made[made["USUBJID"].isin(own["USUBJID"])]
        rule = "CONFIRMED" if best.confirmed else "UNCONFIRMED"
        parts.append(made.assign(PARAMCD="RBOR", EVAL=name, RULE=rule))
    rows = rows.assign(ROW=np.arange(len(rows)), SRCROW=np.nan)
    table = _stack([rows, *parts])
    # The visit behind a best response: the record of that day (of several the worst, which is the one that
    # counted).
    badness = {name: rank for rank, name in enumerate(("ND", "NE", "CR", "PR", "SD", "NON-CR/NON-PD", "PD"))}
    of_day = (
        used.assign(ROW=used.index, BAD=used["AVALC"].map(badness))
        .sort_values(["USUBJID", "ADT", "BAD"], kind="stable")
        .drop_duplicates(["USUBJID", "ADT"], keep="last")
        .set_index(["USUBJID", "ADT"])["ROW"]
    )
    is_best = table["PARAMCD"].isin(["BOR", "CBOR", "RSP", "CRSP", "CB"])
    keys = pd.MultiIndex.from_frame(table.loc[is_best, ["USUBJID", "ADT"]])
    table.loc[is_best, "SRCROW"] = of_day.reindex(keys).to_numpy() if len(of_day) else np.nan
    immune = rows[rows["PARAMCD"] == "IOVR"].drop_duplicates(["USUBJID", "ADT"], keep="last")
    is_immune = table["PARAMCD"].isin(["IBOR", "IPD"])
    if len(immune):
        keys = pd.MultiIndex.from_frame(table.loc[is_immune, ["USUBJID", "ADT"]])
        table.loc[is_immune, "SRCROW"] = immune.set_index(["USUBJID", "ADT"])["ROW"].reindex(keys).to_numpy()
    subject = table["USUBJID"]
    table["STUDYID"] = subject.map(timing.study_id)
    table["PARAM"] = table["PARAMCD"].map(_PARAM)
    table["ADY"] = study_day(table["ADT"], subject.map(timing.baseline))
    numbered = number("ADRS", table)
    seq = numbered.dropna(subset="ROW").set_index("ROW")["ASEQ"]
    source = numbered["SRCROW"].map(seq).astype("float64")
    numbered["SRCSEQ"] = source.where(numbered["SRCROW"].notna(), numbered["RSSEQ"])
    nothing = numbered["SRCSEQ"].isna() & numbered["SRCDOM"].isin(["ADRS", "RS"])
    numbered.loc[nothing, ["SRCDOM", "SRCVAR"]] = None
    return numbered


def _clinical_benefit(
    rs: pd.DataFrame, responds: pd.DataFrame, reference: pd.DataFrame, days: int
) -> pd.DataFrame:
    """Y for a CR or PR at any time, and for disease that is at least stable `days` after the reference or later.

    Dated by the first record that shows it: the response, or the stable disease that is late enough.
    """
    start = reference.set_index("USUBJID")["ADT"]
    lasting = rs[rs["AVALC"].isin(["CR", "PR", "SD", "NON-CR/NON-PD"])]
    late = lasting["ADT"] >= lasting["USUBJID"].map(start) + pd.Timedelta(days=days)
    first = lasting[late].groupby("USUBJID")["ADT"].min().reindex(responds["USUBJID"]).to_numpy()
    day = responds["ADT"].where(responds["ADT"].notna(), pd.Series(first, index=responds.index))
    return responds.assign(AVALC=np.where(day.notna(), "Y", "N"), ADT=day)


def _stack(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of several frames under all their columns; an empty frame gives columns only."""
    columns = list(dict.fromkeys(column for part in parts for column in part.columns))
    filled = [part.reindex(columns=columns).astype(object) for part in parts if len(part)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=columns, dtype=object)
    table["ADT"] = pd.to_datetime(table["ADT"])
    return table.astype({"ROW": "float64", "SRCROW": "float64", "RSSEQ": "float64"})


def reading_lineage(adrs: pd.DataFrame, readings: dict[str, Graded]) -> list[Link]:
    """Links of each evaluator's responses (COMP, RBOR) to the evaluator's own rows (`reading`, `best`)."""
    links: list[Link] = []
    for name, reading in readings.items():
        own = adrs[adrs["EVAL"].eq(name)]
        visits = own.loc[own["PARAMCD"] == "COMP", ["USUBJID", "VISIT", "ADT", "ASEQ"]]
        rows = visits.merge(reading.tr[["USUBJID", "VISIT", "TRSEQ"]], on=["USUBJID", "VISIT"])
        links += [
            (subject, "ADRS", int(seq), "TR", int(parent), "reading")
            for subject, seq, parent in rows[["USUBJID", "ASEQ", "TRSEQ"]].itertuples(index=False)
        ]
        best = own.loc[own["PARAMCD"] == "RBOR", ["USUBJID", "ADT", "ASEQ"]]
        links += [
            (subject, "ADRS", int(seq), "ADRS", int(parent), "best")
            for subject, seq, parent in best.merge(
                visits.drop_duplicates(["USUBJID", "ADT"]), on=["USUBJID", "ADT"], suffixes=("", "_VISIT")
            )[["USUBJID", "ASEQ", "ASEQ_VISIT"]].itertuples(index=False)
        ]
    return links


def adrs_lineage(adrs: pd.DataFrame, adtr: pd.DataFrame, graded: Graded) -> list[Link]:
    """Links of ADRS.

    A computed response leads to the sum of its visit (`target`), to the states of non-target and new lesions
    and their identification (`non-target`, `new`), and to what was looked for and not assessed
    (`not-assessed`); a recorded one to its record (`source`); a best response to its visit (`best`).
    """
    links: list[Link] = []
    computed = adrs[adrs["EVAL"].eq(COMPUTED) & adrs["VISIT"].notna()]
    sums = computed[computed["PARAMCD"].isin(["OVR", "COMP", "TRG", "IOVR"])].merge(
        adtr[["USUBJID", "VISIT", "ASEQ"]], on=["USUBJID", "VISIT"], suffixes=("", "_ADTR")
    )
    links += [
        (subject, "ADRS", int(seq), "ADTR", int(parent), "target")
        for subject, seq, parent in sums[["USUBJID", "ASEQ", "ASEQ_ADTR"]].itertuples(index=False)
    ]
    tu = graded.tu.rename(columns={"TULNKID": "TRLNKID"})[["USUBJID", "TRLNKID", "TUSEQ"]]
    for role, code in (("NON-TARGET", "NTRG"), ("NEW", "NEWL")):
        seen = graded.tr[graded.tr["ASSESSED"] & (graded.tr["ROLE"] == role)]
        seen = seen[["USUBJID", "VISIT", "TRLNKID", "TRSEQ"]].merge(tu, on=["USUBJID", "TRLNKID"], how="left")
        rows = computed[computed["PARAMCD"].isin(["OVR", "COMP", "IOVR", code])][["USUBJID", "VISIT", "ASEQ"]]
        for subject, seq, parent, lesion in rows.merge(seen, on=["USUBJID", "VISIT"])[
            ["USUBJID", "ASEQ", "TRSEQ", "TUSEQ"]
        ].itertuples(index=False):
            links.append((subject, "ADRS", int(seq), "TR", int(parent), role.lower()))
            if pd.notna(lesion):
                links.append((subject, "ADRS", int(seq), "TU", int(lesion), role.lower()))
    # What was looked for and not assessed is why a visit is not evaluable.
    silent = graded.tr.loc[~graded.tr["ASSESSED"], ["USUBJID", "VISIT", "TRSEQ"]]
    whole = computed.loc[computed["PARAMCD"].isin(["OVR", "COMP", "IOVR"]), ["USUBJID", "VISIT", "ASEQ"]]
    links += [
        (subject, "ADRS", int(seq), "TR", int(parent), "not-assessed")
        for subject, seq, parent in whole.merge(silent, on=["USUBJID", "VISIT"])[
            ["USUBJID", "ASEQ", "TRSEQ"]
        ].itertuples(index=False)
    ]
    sourced = adrs[adrs["SRCSEQ"].notna()]
    links += [
        (subject, "ADRS", int(seq), domain, int(parent), "best" if domain == "ADRS" else "source")
        for subject, seq, domain, parent in sourced[["USUBJID", "ASEQ", "SRCDOM", "SRCSEQ"]].itertuples(
            index=False
        )
    ]
    return links
