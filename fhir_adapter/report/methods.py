"""The methods section, generated from the study file: what was done, in the words of a paper.

Every sentence follows from a field of the study definition, so that a report cannot describe a method other
than the one that was run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fhir_adapter.report.formatting import lower_first
from fhir_adapter.results import Results
from fhir_adapter.study import CoxModel, Endpoint, Study

__all__ = ["MethodGroup", "methods"]

Gettext = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class MethodGroup:
    """Sentences about one subject, under its heading."""

    heading: str
    sentences: tuple[str, ...]


def _listed(items: Iterable[str], _: Gettext) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = list(items)
    if len(words) < 2:
        return "".join(words)
    return _("{first} and {last}").format(first=", ".join(words[:-1]), last=words[-1])


def _amount(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _days(number: int, _: Gettext) -> str:
    return _amount(number, _("day"), _("days"))


def methods(study: Study, results: Results, _: Gettext) -> list[MethodGroup]:
    """The methods of a study, by subject; groups without a sentence are left out.

    Args:
        study: the study definition.
        results: results of the run; tests that were named there, and sentences of the analysis, are repeated.
        _: translation of fixed strings.
    """
    groups = [
        MethodGroup(_("Subjects and data"), tuple(_subjects(study, results, _))),
        MethodGroup(_("Treatment"), tuple(_treatment(study, _))),
        MethodGroup(_("Response"), tuple(_response(study, _))),
        MethodGroup(_("Time to event"), (*_survival(study, _), *_subgroups(study, _))),
        MethodGroup(_("Adverse events"), tuple(_toxicity(study, _))),
        MethodGroup(_("Models and tests"), tuple(_statistics(study, results, _))),
        MethodGroup(_("Rounding and missing values"), tuple(_conventions(study, _))),
        MethodGroup(_("Further remarks of the analysis"), tuple(results.methods)),
    ]
    return [group for group in groups if group.sentences]


def _subjects(study: Study, results: Results, _: Gettext) -> Iterable[str]:
    candidates = study.cohort.candidates
    if candidates.research_study is not None:
        source = _("the subjects of the ResearchStudy {value}").format(value=candidates.research_study.value)
    elif candidates.group is not None:
        source = _("the members of the Group {value}").format(value=candidates.group.value)
    elif candidates.condition is not None:
        source = _("patients with a condition coded {codes}").format(codes=_listed(candidates.condition, _))
    else:
        source = _("all patients of the source")
    yield _("Candidates were {source}; data came from electronic health records through HL7 FHIR.").format(
        source=source
    )
    drugs = _listed((drug.label for drug in study.treatment.drugs), _)
    yield _("Treated were candidates with at least one administration of {drugs}.").format(drugs=drugs)
    if study.cohort.exclusions:
        yield _("Excluded, in this order, each subject at the first reason that held: {reasons}.").format(
            reasons="; ".join(lower_first(item.label) for item in study.cohort.exclusions)
        )
    sets = _listed((lower_first(item.label) for item in study.analysis_sets), _)
    yield _("Analysis sets: {sets}.").format(sets=sets)
    cutoff = study.study.data_cutoff
    shown = cutoff.isoformat() if isinstance(cutoff, dt.date) else results.data_cutoff
    yield _(
        "Data were cut off on {date}; nothing dated later counts, and a later death counts as alive."
    ).format(date=shown)
    consent = study.study.consent
    words = {
        "required": _("Only subjects with a recorded consent were included."),
        "opt-out": _("Subjects who objected or withdrew were left out."),
        "waived": _("Consent was waived."),
    }
    text = words[consent.policy]
    yield f"{text[:-1]} ({consent.reference})." if consent.reference else text


def _treatment(study: Study, _: Gettext) -> Iterable[str]:
    treatment = study.treatment
    doses = [
        _("{drug}, {dose:g} {unit} planned per administration").format(
            drug=item.label, dose=item.dose, unit=item.unit
        )
        if item.dose is not None
        else item.label
        for item in treatment.drugs
    ]
    yield _("Study treatment: {drugs}; one cycle is {days}.").format(
        drugs="; ".join(doses), days=_days(treatment.cycle_length_days, _)
    )
    if treatment.cycles_from is not None:
        drug = next(item.label for item in treatment.drugs if item.id == treatment.cycles_from)
        yield _("Cycles were counted from the courses of {drug}.").format(drug=drug)
    if study.exposure.by_drug and any(item.days and item.dose is not None for item in treatment.drugs):
        yield _(
            "Relative dose intensity is the dose given per week, from the first day of the first cycle to the "
            "planned end of the last, in percent of the planned one. A dose counts as reduced if it is more than "
            "{share:g}% below the plan."
        ).format(share=100 * treatment.reduction_tolerance)
    if any(item.unit.endswith("/m2") for item in treatment.drugs):
        yield _("Body surface area, where none is recorded, is by the formula of {name}.").format(
            name={"mosteller": "Mosteller", "dubois": "DuBois"}[treatment.body_size.formula]
        )
    if study.randomisation is not None:
        place = {
            "research_subject": _("the start of the participation in the study"),
            "extension": _("an extension of the participation in the study"),
            "observation": _("an observation of its own"),
            "procedure": _("a procedure of its own"),
            "encounter": _("an encounter of its own"),
        }[study.randomisation.source]
        yield _("The date of randomisation is that of {place}.").format(place=place)
    if treatment.arms:
        yield _("Arms: {arms}.").format(arms=_listed((arm.label for arm in treatment.arms), _))


def _response(study: Study, _: Gettext) -> Iterable[str]:
    response = study.response
    if response.evaluator == "COMPUTED":
        yield _(
            "Response at each visit was computed from lesion measurements by {criteria}; responses recorded "
            "by investigators are shown beside it and change no number."
        ).format(criteria=response.criteria_label)
    else:
        yield _("Response at each visit is the one recorded by {evaluator}, by {criteria}.").format(
            evaluator=response.evaluator, criteria=response.criteria_label
        )
    yield _(
        "Baseline is the last complete assessment within {window} before the start of treatment; assessments "
        "within {visit} of a visit's first scan belong to that visit. Assessments were planned every "
        "{interval}."
    ).format(
        window=_days(response.baseline_window_days, _),
        visit=_days(response.visit_window_days, _),
        interval=_days(response.assessment_interval_days, _),
    )
    if response.sustained_pr:
        yield _("A partial response was held until progression even where shrinkage later fell below 30%.")
    else:
        yield _("Each visit was judged by the thresholds alone; a partial response was not carried on.")
    if response.reappearance_is_pd:
        yield _("After a complete response, the reappearance of a lesion was progression.")
    else:
        yield _("After a complete response, progression was judged by the 20% and 5 mm rule alone.")
    if response.adjudication is not None:
        yield _(
            "Each of {readers} was graded alone; where they disagreed on {on}, the reading of {adjudicator} counted."
        ).format(
            readers=_listed(response.adjudication.readers, _),
            on=_listed((item.replace("_", " ") for item in response.adjudication.on), _),
            adjudicator=response.adjudication.adjudicator,
        )
    elif response.measured_by is not None:
        yield _("The measurements of {evaluator} counted; other evaluators were graded beside them.").format(
            evaluator=response.measured_by
        )
    if response.irecist:
        yield _(
            "Beside RECIST 1.1, responses were graded by iRECIST: a progression is unconfirmed until an "
            "assessment at least four weeks later confirms it; stable disease or a response in between resets it."
        )
    if response.clinical_benefit_days is not None:
        yield _(
            "Clinical benefit is a complete or partial response, or disease that was at least stable {days} "
            "after the reference or later."
        ).format(days=_days(response.clinical_benefit_days, _))
    best = response.best
    reference = {
        "baseline": _("the baseline examination"),
        "first_dose": _("the first dose"),
        "randomisation": _("randomisation"),
    }[best.reference]
    if best.confirmed:
        yield _("Best overall response needed confirmation after at least {days}.").format(
            days=_days(best.ref_confirm, _)
        )
    else:
        yield _("Best overall response did not need confirmation.")
    yield _("Stable disease counted from {days} after {reference}.").format(
        days=_days(best.ref_start_window, _), reference=reference
    )
    yield _(
        "The objective response rate is complete and partial responses, the disease control rate these and "
        "stable disease, each over all subjects of the analysis set; those who were not evaluable stay in "
        "the denominator."
    )
    intervals = {table.interval for table in study.response_tables if table.interval}
    names = {"clopper_pearson": _("Clopper–Pearson"), "wilson": _("Wilson")}
    if intervals:
        yield _("Intervals of rates are {names} intervals at 95%.").format(
            names=_listed((names[name] for name in sorted(intervals)), _)
        )


def _endpoint(endpoint: Endpoint, study: Study, _: Gettext) -> str:
    start = {
        "baseline": _("the baseline examination"),
        "first_dose": _("the first dose"),
        "randomisation": _("randomisation"),
    }[endpoint.start]
    last = {
        "last_adequate_assessment": _("the last adequate tumour assessment"),
        "last_contact": _("the last contact"),
    }[endpoint.censor_at]
    kind = {
        "PFS": _(
            "from {start} to the first progression or death of any cause; others were censored at {last}"
        ),
        "IPFS": _(
            "by iRECIST, from {start} to the first progression that was confirmed or never reset, or death of any "
            "cause; others were censored at {last}"
        ),
        "EFS": _("from {start} to the first event; others were censored at {last}"),
        "OS": _("from {start} to death of any cause; others were censored at the last contact"),
        "DOR": _(
            "in responders, from the first response to progression or death; others were censored at {last}"
        ),
        "TTR": _("from {start} to the first response; others were censored at {last}"),
        "TOT": _("from {start} to the last dose"),
    }[endpoint.kind]
    text = f"{endpoint.label}: {kind.format(start=start, last=last)}"
    if endpoint.kind == "DOR" and endpoint.response == "confirmed":
        text += _("; only confirmed responses count")
    if endpoint.censor_new_therapy:
        text += _("; new anti-cancer therapy censors at the last adequate assessment before it")
    if endpoint.censor_missed_assessments:
        text += _("; an event after two or more missed assessments censors before the gap")
    if endpoint.evaluator is not None:
        text += _("; responses are those of {evaluator}").format(evaluator=endpoint.evaluator)
    if endpoint.count_first_day:
        text += _("; the first day counts as day 1")
    return text + "."


def _survival(study: Study, _: Gettext) -> Iterable[str]:
    for endpoint in study.endpoints:
        yield _endpoint(endpoint, study, _)
    if not study.endpoints:
        return
    types = _listed(sorted({endpoint.conf_type for endpoint in study.endpoints}), _)
    yield _(
        "Curves are Kaplan–Meier estimates with Greenwood's variance and {types} 95% intervals; medians have "
        "Brookmeyer–Crowley intervals. A month is 30.4375 days."
    ).format(types=types)
    if any(endpoint.by for endpoint in study.endpoints):
        yield _("Curves of subgroups were compared by the log-rank test.")
    yield _(
        "Median follow-up is given as observed and, where there is overall survival, by reverse Kaplan–Meier."
    )
    for item in study.sensitivity:
        changes = "; ".join(f"{name}: {value}" for name, value in item.changes.items())
        yield _("Sensitivity analysis of {endpoint}: {label} ({changes}).").format(
            endpoint=lower_first(study.endpoint(item.endpoint).label), label=item.label, changes=changes
        )


def _subgroups(study: Study, _: Gettext) -> Iterable[str]:
    """Subgroup and landmark analyses, and what the response tables compare."""
    for item in study.subgroup_analyses:
        names = _listed((lower_first(study.subgroup(name).label) for name in item.subgroups), _)
        endpoint = lower_first(study.endpoint(item.endpoint).label)
        if item.arms or len(study.treatment.arms) == 2:
            text = _(
                "{label}: hazard ratios of {endpoint} between the arms within levels of {names}, Cox regression "
                "with {ties} ties; the interaction by the likelihood ratio test."
            )
        else:
            text = _(
                "{label}: median {endpoint} and objective response rate within levels of {names}, compared by "
                "the log-rank test."
            )
        yield text.format(label=item.label, endpoint=endpoint, names=names, ties=item.ties.title())
    for mark in study.landmark_analyses:
        endpoint_ = study.endpoint(mark.endpoint)
        yield _(
            "{label}: landmark analysis at {time:g} {unit} (Anderson, Cain and Gelber 1983), of the subjects "
            "followed without event beyond it, by the response reached until then."
        ).format(label=mark.label, time=mark.landmark, unit=endpoint_.unit)
    differences = {"newcombe": _("Newcombe"), "miettinen_nurminen": _("Miettinen–Nurminen")}
    ratios = {"odds_ratio_wald": _("Wald"), "odds_ratio_exact": _("conditional exact")}
    for table in study.response_tables:
        parts = []
        if table.difference is not None:
            parts.append(_("differences with {name} intervals").format(name=differences[table.difference]))
        if table.odds_ratio is not None:
            parts.append(_("odds ratios with {name} intervals").format(name=ratios[table.odds_ratio]))
        if parts:
            yield _("{title}: groups of two levels are compared by {what}.").format(
                title=table.title, what=_listed(parts, _)
            )


def _toxicity(study: Study, _: Gettext) -> Iterable[str]:
    toxicity = study.toxicity
    yield _(
        "Adverse events were graded by {dictionary}; a subject counts once per term, at the worst grade."
    ).format(dictionary=toxicity.dictionary)
    yield _("Events count as treatment-emergent from the first dose to {days} after the last.").format(
        days=_days(toxicity.window_days, _)
    )
    yield _(
        "Related are events with a causality of {values}; absent causality is unknown, not related."
    ).format(values=_listed((value.lower() for value in toxicity.related_values), _))
    if toxicity.related_only:
        yield _("The tables by term count treatment-related events only.")
    yield _(
        "What was done about an event is what its record, or an administration that names it as the reason, says; "
        "it was not inferred from dates."
    )
    if "rates" in toxicity.tables:
        yield _(
            "Exposure-adjusted rates are first events per 100 patient-years (365.25 days) from the first dose to "
            "the event, else to the end of the emergent window, death, last contact or cut-off, with exact Poisson "
            "intervals."
        )


def _model(model: CoxModel, study: Study, _: Gettext) -> str:
    names = _listed(
        (
            _("{label} (reference {reference})").format(
                label=item.label or item.variable, reference=item.reference
            )
            if item.reference is not None
            else item.label or item.variable
            for item in model.covariates
        ),
        _,
    )
    text = _(
        "{label}: {kind} Cox proportional hazards regression of {endpoint} on {names}, {ties} ties"
    ).format(
        label=model.label,
        kind=_("univariate") if model.univariate else _("multivariate"),
        endpoint=lower_first(study.endpoint(model.endpoint).label),
        names=names,
        ties=model.ties.title(),
    )
    return text + (_(", stratified by {strata}").format(strata=model.strata) if model.strata else "") + "."


def _statistics(study: Study, results: Results, _: Gettext) -> Iterable[str]:
    for model in study.models:
        yield _model(model, study, _)
    if study.models:
        yield _(
            "Intervals and P values of models are Wald's; covariates and reference levels were named in "
            "advance and none was selected by its P value. Proportional hazards were checked by the score test "
            "with the Kaplan–Meier transform of time (Grambsch and Therneau 1994)."
        )
    for subgroup in study.subgroups:
        for name, column in ((subgroup.orr_test, "orr"), (subgroup.dcr_test, "dcr")):
            if name is None:
                continue
            found = next(
                (
                    r
                    for key, r in results.results.items()
                    if key.endswith(f".{subgroup.id.replace('-', '_')}.{column}_test.p")
                ),
                None,
            )
            method = found.method if found is not None and found.method else name.replace("_", " ")
            yield _("{rate} between levels of {subgroup}: {method}.").format(
                rate=column.upper(), subgroup=lower_first(subgroup.label), method=method
            )
    if any(result.unit == "p" for result in results.results.values()):
        if study.study.exploratory:
            yield _("P values are two-sided and exploratory; they were not adjusted for multiple testing.")
        else:
            yield _("P values are two-sided.")


def _conventions(study: Study, _: Gettext) -> Iterable[str]:
    yield _("Percentages have one decimal; halves are rounded away from zero.")
    if study.quantile_type == 2:
        yield _("Quartiles are those of SAS (definition 2 of Hyndman and Fan).")
    names = {
        "death": _("death"),
        "ae_start": _("start of an adverse event"),
        "dose": _("dose"),
        "response": _("response"),
    }
    rules = {name: getattr(study.imputation, name) for name in names}
    imputed = [
        _("{name} ({rule} possible day)").format(name=names[name], rule=rule)
        for name, rule in rules.items()
        if rule != "none"
    ]
    if imputed:
        yield _(
            "Partial dates were imputed, within what is known, for: {names}. Others were not imputed."
        ).format(names=", ".join(imputed))
    else:
        yield _("Partial dates were not imputed.")
    yield _("Missing values were not imputed; they are counted where they occur.")
