"""The words of RECIST 1.1: responses and their two orders, limits, and the rules that decide a visit.

Sections are those of Eisenhauer et al. 2009 (Eur J Cancer 45:228-247); "FAQ" is EORTC's list of questions and
clarifications on RECIST 1.1. Texts are CDISC's (codelists ONCRSR and TRPROPRS).
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BEST_ORDER",
    "NODE_NORMAL_BELOW_UM",
    "PD_ABSOLUTE_UM",
    "RECORD_RESPONSES",
    "RULES",
    "TOO_SMALL_UM",
    "WORST_OF_A_DAY",
]

# Best overall response is the first of these that a record qualifies for (4.4.3); MISSING: a subject without
# a record.
BEST_ORDER: Final = ("CR", "PR", "SD", "NON-CR/NON-PD", "PD", "NE", "ND", "MISSING")

# What a response record may say.
RECORD_RESPONSES: Final = BEST_ORDER[:-1]

# Of several assessments on one day the last of these counts. ND says that nothing was assessed: anything else
# outranks it.
WORST_OF_A_DAY: Final = ("ND", "NE", "CR", "PR", "SD", "NON-CR/NON-PD", "PD")

# Lengths are integers of 0.001 mm, so that exactly 30 %, 20 %, 5 mm and 10 mm are decided without rounding.
TOO_SMALL_UM: Final = 5_000  # 4.3.2: seen, but too small to measure: 5 mm
NODE_NORMAL_BELOW_UM: Final = 10_000  # 4.3.1: a node with a short axis below 10 mm is normal
PD_ABSOLUTE_UM: Final = 5_000  # 4.3.1: progression needs an absolute increase of 5 mm or more

RULES: Final[dict[str, str]] = {
    "BASELINE": "4.2: the first visit of a subject is the baseline; it has no response",
    "PD-TARGET-SUM": "4.3.1: the sum is 20 % and 5 mm or more above the nadir",
    "PD-TARGET-REAPPEARED": "4.4.3, note of Table 3: a non-nodal target is seen again after a target CR",
    "PD-NONTARGET-UNEQUIVOCAL": "4.3.4: unequivocal progression of a non-target lesion",
    "PD-NONTARGET-REAPPEARED": "4.4.3, note of Table 3: a non-target is present again after an overall CR",
    "PD-NEW-LESION": "4.3.5: a definite new lesion",
    "CR-ALL": "4.4.1, Table 1: target CR, and non-target CR or no non-target lesion",
    "CR-NONTARGET": "4.4.1, Table 2: no targets, non-target CR",
    "PR-TARGET-CR": "4.4.1, Table 1: target CR, but non-targets persist or are not all assessed",
    "PR-TARGET": "4.3.1: the sum is 30 % or more below the baseline",
    "PR-SUSTAINED": "FAQ, definition of SD: a response holds until progression (setting sustained_pr)",
    "SD-TARGET": "4.3.1: neither PR nor PD",
    "NON-CR/NON-PD-NONTARGET": "4.4.1, Table 2: no targets, non-targets persist",
    "NE-TARGET": "4.4.2: a target was not assessed, and what was assessed shows no progression",
    "NE-BASE": "4.2: a target has no baseline measurement",
    "NE-NONTARGET": "4.4.1, Table 2: no targets, a non-target was not assessed",
    "NE-NO-LESION": "4.4.1: the subject has neither target nor non-target lesions",
}
"""The codes of the column RULE of `visit_responses`, each with its guideline section and sentence."""
