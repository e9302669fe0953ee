"""ADTTE: time to event, one row per subject and endpoint, with its reason and its source record.

Sources: rules.md, Time to event; FDA guidance "Clinical Trial Endpoints for the Approval of Cancer Drugs and
Biologics" (2018), appendix, for the optional censoring rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import ValidationError

from fhir_adapter.accounting import Finding
from fhir_adapter.derive.numbering import number
from fhir_adapter.derive.recist import confirmed_objective_response, objective_response
from fhir_adapter.errors import StudyFileError
from fhir_adapter.lineage import Link
from fhir_adapter.study import Endpoint, Study

__all__ = ["Facts", "adtte_lineage", "overall_by", "planned_endpoints", "times_to_event"]

Dates = npt.NDArray[np.datetime64]
Bools = npt.NDArray[np.bool_]
Texts = npt.NDArray[np.object_]

_START: Final = {"baseline": "BASEDT", "first_dose": "TRTSDT", "randomisation": "RANDDT"}
_DAY: Final = np.timedelta64(1, "D")


def planned_endpoints(study: Study) -> Iterator[tuple[str, str, Endpoint]]:
    """PARAMCD, label and settings of every endpoint, and of every sensitivity analysis (`PFS_<ID>`).

    Raises:
        StudyFileError: a sensitivity analysis changes something that an endpoint does not have, or to a value
            it cannot have.
    """
    for endpoint in study.endpoints:
        yield endpoint.id, endpoint.label, endpoint
    for item in study.sensitivity:
        base = study.endpoint(item.endpoint)
        unknown = sorted(set(item.changes) - (set(Endpoint.model_fields) - {"id", "kind"}))
        if unknown:
            raise StudyFileError(
                f"the sensitivity analysis {item.id} changes {', '.join(unknown)}",
                where=f"sensitivity.{item.id}.changes",
                remedy=f"It can change {', '.join(sorted(set(Endpoint.model_fields) - {'id', 'kind'}))}.",
            )
        try:
            changed = Endpoint.model_validate({**base.model_dump(), **item.changes})
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise StudyFileError(problems, where=f"sensitivity.{item.id}.changes") from error
        yield f"{base.id}_{item.id.upper().replace('-', '_')}", item.label, changed


@dataclass(frozen=True)
class Facts:
    """What endpoints are made of.

    Attributes:
        subjects: on USUBJID: STUDYID, DMSEQ, BASEDT, TRTSDT, RANDDT, TRTEDT, LASTSEQ (EXSEQ of the last
            dose), DTHDT, DTHDTF, UNDATED (died, day unknown), LSTALVDT, LSTDOM, LSTVAR, LSTSEQ, BASESEQ (ADTR's ASEQ
            of the baseline row), FIRSTSEQ (EXSEQ of the first dose), NEWDT and NEWSEQ (new anti-cancer
            therapy: CM), ENDED (treatment ended).
        adrs: ADRS with ASEQ.
    """

    subjects: pd.DataFrame
    adrs: pd.DataFrame


@dataclass(frozen=True)
class _Moment:
    """Per subject a date, what it says, and the record it comes from."""

    date: Dates
    text: Texts
    domain: Texts
    variable: Texts
    seq: npt.NDArray[np.float64]
    code: npt.NDArray[np.int64]

    def where(self, condition: Bools, other: _Moment) -> _Moment:
        """This moment where the condition holds, else the other."""
        return _Moment(*(np.where(condition, getattr(self, name), getattr(other, name)) for name in _FIELDS))

    @property
    def known(self) -> Bools:
        """Whether there is a date."""
        return ~np.isnat(self.date)


def overall_by(facts: Facts, evaluator: str) -> pd.DataFrame:
    """Rows of ADRS with one evaluator's overall responses up to the first PD among them and to death.

    COMPUTED are those from measurements; INVESTIGATOR also responses that name no evaluator.
    """
    adrs = facts.adrs
    rows = adrs[
        adrs["PARAMCD"].isin(["OVR", "COMP", "INV", "RDR"]) & adrs["USUBJID"].isin(facts.subjects.index)
    ]
    name = rows["EVAL"].astype("string").str.upper()
    if evaluator.upper().startswith("INVESTIGATOR"):
        mine = name.isna() | name.str.startswith("INVESTIGATOR").fillna(False)
    else:
        mine = name.eq(evaluator.upper()).fillna(False)
    rows = rows[mine.astype(bool)]
    # A recorded response that counts stands twice, as OVR and as INV or RDR.
    rows = rows.sort_values(["USUBJID", "ADT", "ASEQ"], kind="stable")
    rows = rows.drop_duplicates(["USUBJID", "ADT", "AVALC"])
    subject = rows["USUBJID"]
    progression = subject.map(rows[rows["AVALC"] == "PD"].groupby("USUBJID")["ADT"].min())
    death = subject.map(facts.subjects["DTHDT"])
    return rows[~(rows["ADT"] > progression) & ~(rows["ADT"] > death)]


def _responses_in(overall: pd.DataFrame, facts: Facts, endpoint: Endpoint, study: Study) -> pd.DataFrame:
    """On USUBJID: ADT and ASEQ of the first CR or PR (that is confirmed) of one evaluator's responses."""
    best = study.response.best
    start = facts.subjects[_START[best.reference]].dropna()
    reference = pd.DataFrame({"USUBJID": start.index, "ADT": start.to_numpy()})
    rs = overall[["USUBJID", "ADT", "AVALC"]]
    if endpoint.response == "confirmed":
        result = confirmed_objective_response(
            rs, reference, ref_confirm=best.ref_confirm, max_nr_ne=best.max_nr_ne, accept_sd=best.accept_sd
        )
    else:
        result = objective_response(rs, reference)
    yes = result[result["AVALC"] == "Y"]
    of_day = overall[overall["AVALC"].isin(["CR", "PR"])].drop_duplicates(["USUBJID", "ADT"])
    found = yes[["USUBJID", "ADT"]].merge(of_day[["USUBJID", "ADT", "ASEQ"]], on=["USUBJID", "ADT"])
    return found.set_index("USUBJID")


_FIELDS: Final = ("date", "text", "domain", "variable", "seq", "code")


class _Derivation:
    """Derives the rows of one endpoint for all subjects at once."""

    def __init__(self, facts: Facts, endpoint: Endpoint, study: Study) -> None:
        self.table, self.endpoint, self.study = facts.subjects, endpoint, study
        if endpoint.evaluator is None:
            rows = facts.adrs[facts.adrs["ANL01FL"].eq("Y")]
            overall = rows[(rows["PARAMCD"] == "OVR") & rows["USUBJID"].isin(self.table.index)]
            code = "CRSP" if endpoint.response == "confirmed" else "RSP"
            self.response = rows[(rows["PARAMCD"] == code) & (rows["AVALC"] == "Y")].set_index("USUBJID")
        else:
            overall = overall_by(facts, endpoint.evaluator)
            self.response = _responses_in(overall, facts, endpoint, study)
        self.adequate = overall[~overall["AVALC"].isin(["NE", "ND"])].sort_values(["USUBJID", "ADT", "ASEQ"])
        done = overall[overall["AVALC"] != "ND"]
        #: Day of the last assessment, adequate or not; NaT for who has none.
        self.assessed = done.groupby("USUBJID")["ADT"].max().reindex(self.table.index).to_numpy()
        self.progression = self._first(overall[overall["AVALC"] == "PD"], "Progressive disease")
        if endpoint.kind == "IPFS":
            self.adequate, self.progression = self._immune(facts.adrs)
        self.death = self.moment("DTHDT", "Death", "DM", "DTHDTC", self.table["DMSEQ"])
        self.therapy = self.moment("NEWDT", "New anti-cancer therapy", "CM", "CMSTDTC", self.table["NEWSEQ"])
        self.contact = self._contact()
        name = _START[endpoint.start]
        self.start = self.moment(name, "No assessment after the start", "ADSL", name, 1.0, code=4)

    def _immune(self, adrs: pd.DataFrame) -> tuple[pd.DataFrame, _Moment]:
        """Adequate assessments by iRECIST, and the iUPD that was confirmed or never reset (Seymour 2017)."""
        visits = adrs[(adrs["PARAMCD"] == "IOVR") & adrs["ANL01FL"].eq("Y")]
        adequate = visits[visits["AVALC"] != "NE"].sort_values(["USUBJID", "ADT", "ASEQ"])
        date = adrs[adrs["PARAMCD"] == "IPD"].set_index("USUBJID")["ADT"]
        events = visits[
            visits["AVALC"].isin(["iUPD", "iCPD"]) & (visits["ADT"] == visits["USUBJID"].map(date))
        ]
        return adequate, self._first(events, "Progressive disease by iRECIST")

    def moment(self, column: str, text: str, domain: str, variable: str, seq: Any, code: int = 0) -> _Moment:
        """A moment from a date column of the subjects."""
        return self._build(self.table[column], text, domain, variable, seq, code)

    def _build(self, date: Any, text: Any, domain: Any, variable: Any, seq: Any, code: int) -> _Moment:
        count = len(self.table)

        def texts(value: Any) -> Texts:
            return (
                np.full(count, value, dtype=object)
                if isinstance(value, str)
                else np.asarray(value, dtype=object)
            )

        return _Moment(
            np.asarray(pd.to_datetime(pd.Series(np.asarray(date)))).astype("datetime64[ns]"),
            texts(text),
            texts(domain),
            texts(variable),
            np.broadcast_to(np.asarray(seq, dtype=np.float64), count),
            np.full(count, code, dtype=np.int64),
        )

    def _records(self, rows: pd.DataFrame, text: str, code: int) -> _Moment:
        """A moment from one row of ADRS per subject (or none)."""
        own = rows.set_index("USUBJID").reindex(self.table.index)
        return self._build(own["ADT"], text, "ADRS", "ADT", own["ASEQ"], code)

    def _first(self, rows: pd.DataFrame, text: str) -> _Moment:
        ordered = rows.sort_values(["USUBJID", "ADT", "ASEQ"])
        return self._records(ordered.drop_duplicates("USUBJID"), text, 0)

    def last_adequate(
        self, before: Dates | None, *, inclusive: Bools | None = None, text: str, code: int = 1
    ) -> _Moment:
        """The last adequate assessment.

        Before a date where there is one (up to and with it where `inclusive`).
        """
        rows = self.adequate
        if before is not None:
            position = self.table.index.get_indexer(pd.Index(rows["USUBJID"]))
            limit = before[position]
            date = rows["ADT"].to_numpy()
            inside = np.isnat(limit) | (date < limit)
            if inclusive is not None:
                inside |= inclusive[position] & (date == limit)
            rows = rows[inside]
        return self._records(rows.drop_duplicates("USUBJID", keep="last"), text, code)

    def _contact(self) -> _Moment:
        table = self.table
        undated = table["UNDATED"].to_numpy(dtype=bool)
        text = np.where(undated, "Death without a date: last contact", "Alive at last contact").astype(object)
        return self._build(table["LSTALVDT"], text, table["LSTDOM"], table["LSTVAR"], table["LSTSEQ"], 1)

    def or_start(self, censoring: _Moment) -> _Moment:
        """A censoring, or the start where there is none after it."""
        return censoring.where(censoring.known & (censoring.date >= self.start.date), self.start)

    # -- the kinds of endpoints
    # --------------------------------------------------------------------------------

    def rows(self) -> tuple[_Moment, _Moment, Bools]:
        """Start, end (event or censoring; `code` is CNSR) and which subjects have a row."""
        if self.endpoint.kind == "OS":
            self.start = self._renamed_start("No contact after the start")
            end = self.death.where(self.death.known, self.or_start(self.contact))
        elif self.endpoint.kind == "TTR":
            end = self._response("Response")
        elif self.endpoint.kind == "TOT":
            end = self._treatment()
        elif self.endpoint.kind == "DOR":
            # The response itself is an adequate assessment: who has no later one is censored on its day.
            self.start = self._response("No assessment after the response", code=4)
            end = self._progression_or_death()
        else:
            end = self._progression_or_death()
        return self.start, end, self.start.known & end.known

    @property
    def responded(self) -> pd.Series[Any]:
        """Day of the first response of the kind that the endpoint asks for, by position."""
        return pd.to_datetime(self.response["ADT"].reindex(self.table.index)).reset_index(drop=True)

    def _renamed_start(self, text: str) -> _Moment:
        start = self.start
        return _Moment(
            start.date,
            np.full(len(start.text), text, dtype=object),
            start.domain,
            start.variable,
            start.seq,
            start.code,
        )

    def _response(self, text: str, code: int = 0) -> _Moment:
        own = self.response.reindex(self.table.index)
        return self._build(own["ADT"], text, "ADRS", "ADT", own["ASEQ"], code)

    def _treatment(self) -> _Moment:
        """Last dose: an event where the treatment ended, else censored there."""
        ended = self.table["ENDED"].to_numpy(dtype=bool)
        event = self.moment("TRTEDT", "End of treatment", "EX", "EXENDTC", self.table["LASTSEQ"])
        ongoing = self.moment(
            "TRTEDT", "On treatment at last contact", "EX", "EXENDTC", self.table["LASTSEQ"], code=1
        )
        return event.where(ended, ongoing)

    def _progression_or_death(self) -> _Moment:
        """PFS, EFS and DoR: the first PD or death (EFS.

        Or new anti-cancer therapy), with the censoring rules.
        """
        progressed = self.progression.known & ~(self.death.date < self.progression.date)
        event = self.progression.where(progressed, self.death)
        if self.endpoint.kind == "EFS":
            event = event.where(~self.therapy.known | (event.date <= self.therapy.date), self.therapy)
        if self.endpoint.censor_at == "last_contact":
            censored = self.or_start(self.contact)
            if self.endpoint.kind != "DOR":  # a responder has been assessed
                # Who was never assessed is censored at the start, whatever is known of them.
                censored = censored.where(self.assessed > self.start.date, self.start)
        else:
            censored = self.or_start(self.last_adequate(None, text="Last adequate assessment"))
        end = event.where(event.known, censored)
        if self.endpoint.censor_missed_assessments:
            # An assessment on the day of progression is the progression itself; one on the day of death
            # counts.
            on_death = ~(event.date == self.progression.date)
            before = self.last_adequate(
                event.date, inclusive=on_death, text="Assessments missed before the event", code=3
            )
            before = self._with_text(self.or_start(before), "Assessments missed before the event", 3)
            gap = 2 * self.study.response.assessment_interval_days + self.study.response.visit_window_days
            # Only progression and death may come too late; new therapy (EFS) is known to the day.
            late = (event.domain != "CM") & (event.date - before.date > gap * _DAY)
            end = before.where(event.known & late, end)
        if self.endpoint.censor_new_therapy and self.endpoint.kind != "EFS":
            text = "Last adequate assessment before new anti-cancer therapy"
            before = self._with_text(
                self.or_start(self.last_adequate(self.therapy.date, text=text, code=2)), text, 2
            )
            # Therapy that starts before the subject's event or censoring ends what can be said of the study
            # treatment.
            end = before.where(self.therapy.known & (end.date >= self.therapy.date), end)
        return end

    def _with_text(self, moment: _Moment, text: str, code: int) -> _Moment:
        return _Moment(
            moment.date,
            np.full(len(moment.text), text, dtype=object),
            moment.domain,
            moment.variable,
            moment.seq,
            np.full(len(moment.code), code, dtype=np.int64),
        )


def times_to_event(facts: Facts, study: Study) -> tuple[pd.DataFrame, list[Finding]]:
    """Rows of ADTTE with ASEQ, for every subject that has the endpoint's start date.

    - PFS: the first PD or death; else censored as `censor_at` says; without an assessment after the start, on
      the start.
    - OS: death; else last contact; else the start. A death whose day is not known is censored at last
      contact.
    - DOR: responders, from the first CR or PR (the first that was confirmed). TTR: responders, to it.
    - IPFS: as PFS, by iRECIST: progression dates from the first iUPD that was confirmed or never reset.
    - EFS: as PFS, and new anti-cancer therapy is an event.
    - TOT: to the last dose; an event unless the subject was still on treatment at last contact.

    CNSR is 0 for an event; 1 censored; 2 censored by new anti-cancer therapy; 3 by missed assessments; 4 on
    the start.

    Args:
        facts: dates and responses.
        study: endpoints, sensitivity analyses, windows.

    Raises:
        StudyFileError: a sensitivity analysis that cannot be.
    """
    parts: list[pd.DataFrame] = []
    findings: list[Finding] = []
    subjects = facts.subjects
    for code, label, endpoint in planned_endpoints(study):
        derivation = _Derivation(facts, endpoint, study)
        start, end, has = derivation.rows()
        if not has.any():
            continue
        days = pd.Series(end.date - start.date).dt.days.to_numpy()
        event = end.code == 0
        nothing = np.full(len(has), None, dtype=object)
        table = pd.DataFrame(
            {
                "STUDYID": subjects["STUDYID"].to_numpy(),
                "USUBJID": subjects.index,
                "PARAMCD": code,
                "PARAM": label,
                "STARTDT": start.date,
                "ADT": end.date,
                "ADTF": np.where(end.domain == "DM", subjects["DTHDTF"].to_numpy(dtype=object), nothing),
                "AVAL": days + int(endpoint.count_first_day),
                "RSPDY": (derivation.responded - pd.Series(start.date)).dt.days.to_numpy(),
                "CNSR": end.code,
                "EVNTDESC": np.where(event, end.text, nothing),
                "CNSDTDSC": np.where(event, nothing, end.text),
                "SRCDOM": end.domain,
                "SRCVAR": end.variable,
                "SRCSEQ": end.seq,
                "START": endpoint.start,
                "START_DOMAIN": start.domain,
                "START_SEQ": start.seq,
            }
        )[has]
        early = table["ADT"] < table["STARTDT"]
        text = f"{code} ends before it starts"
        findings += [
            Finding("event-before-start", text, "derive", usubjid=name)
            for name in sorted(table.loc[early, "USUBJID"])
        ]
        if endpoint.evaluator is not None and overall_by(facts, endpoint.evaluator).empty:
            text = f"{code} is by an evaluator of whom there is no response: everybody is censored"
            findings.append(Finding("evaluator-without-responses", text, "derive", detail=endpoint.evaluator))
        parts.append(table)
    if not parts:
        columns = [
            "STUDYID",
            "USUBJID",
            "PARAMCD",
            "START",
            "START_DOMAIN",
            "START_SEQ",
            "SRCDOM",
            "SRCSEQ",
            "CNSR",
        ]
        return number("ADTTE", pd.DataFrame(columns=columns)), findings
    return number("ADTTE", pd.concat(parts, ignore_index=True)), findings


def adtte_lineage(adtte: pd.DataFrame, facts: Facts) -> list[Link]:
    """Links of ADTTE: to the record of the event (`event`) or censoring (`last`), and of the start.

    A start at the baseline examination leads to its sum in ADTR (else to ADSL), at the first dose to EX, at
    the randomisation to DM.
    """
    subjects = facts.subjects
    base, first, dm = (subjects[name].to_dict() for name in ("BASESEQ", "FIRSTSEQ", "DMSEQ"))
    links: list[Link] = []
    names = ["USUBJID", "ASEQ", "CNSR", "SRCDOM", "SRCSEQ", "START", "START_DOMAIN", "START_SEQ"]
    for subject, seq, censored, domain, parent, start, start_domain, start_seq in adtte[names].itertuples(
        index=False
    ):
        if pd.notna(domain) and pd.notna(parent):
            links.append((subject, "ADTTE", int(seq), domain, int(parent), "last" if censored else "event"))
        known: dict[str, tuple[str, Any]] = {
            "baseline": ("ADTR", base[subject]),
            "first_dose": ("EX", first[subject]),
            "randomisation": ("DM", dm[subject]),
        }
        dataset, parent = known[start] if start_domain == "ADSL" else (start_domain, start_seq)
        if pd.isna(parent):
            dataset, parent = "ADSL", 1
        links.append((subject, "ADTTE", int(seq), dataset, int(parent), "start"))
    return links
