"""RECIST 1.1: response per visit, best overall response, confirmation, objective response.

The functions here are stable; they take and return pandas frames and work on all subjects at once. Sources:
Eisenhauer et al. 2009 (Eur J Cancer 45:228-247), EORTC's questions and clarifications on RECIST 1.1, and for
best overall response the conventions of the pharmaverse's `admiralonco`.
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
