"""RECIST 1.1: response per visit, best overall response, confirmation, objective response.

The functions here are stable; they take and return pandas frames and work on all subjects at once. Sources:
Eisenhauer et al. 2009 (Eur J Cancer 45:228-247), EORTC's questions and clarifications on RECIST 1.1, and for
best overall response the conventions of the pharmaverse's `admiralonco`.

From lesions to best overall response; the baseline rows have no response and are left out:

    visits = visit_responses(tu, tr)
    baseline = visits.drop_duplicates("USUBJID")[["USUBJID", "ADT"]]
    rs = visits.rename(columns={"OVRLRESP": "AVALC"}).dropna(subset=["AVALC"])
    confirmed_best_overall_response(rs, baseline)

Beside these: `eligibility.target_findings` (is the choice of targets as the guideline asks?), `irecist` (the
same visits by iRECIST), `vocabulary.RULES` (what the codes in the column RULE say).
"""

from fhir_adapter.derive.recist.best_response import (
    best_overall_response,
    confirmed_best_overall_response,
    confirmed_objective_response,
    objective_response,
)
from fhir_adapter.derive.recist.visits import visit_responses

__all__ = [
    "best_overall_response",
    "confirmed_best_overall_response",
    "confirmed_objective_response",
    "objective_response",
    "visit_responses",
]
