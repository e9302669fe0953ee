"""The methods section says what the study file asks for, and changes with it."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_adapter.report.methods import methods

Case = Any


def _text(case: Case) -> str:
    groups = methods(case.study, case.results, lambda text: text)
    return " ".join(sentence for group in groups for sentence in group.sentences)


def test_defaults_in_words(small: Case) -> None:
    """The conventions of a plain study file."""
    text = _text(small)
    for sentence in (
        "Treated were candidates with at least one administration of Anlotinib.",
        "Consent was waived (IRB 1).",
        "Study treatment: Anlotinib, 12 mg planned per administration; one cycle is 21 days.",
        "A partial response was held until progression",
        "Stable disease counted from 42 days after the baseline examination.",
        "Progression-free survival: from the baseline examination to the first progression or death of any",
        "others were censored at the last adequate tumour assessment.",
        "log-log 95% intervals",
        "Curves of subgroups were compared by the log-rank test.",
        "P values are two-sided and exploratory",
        "Partial dates were not imputed.",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    ("part", "changes", "expected"),
    [
        ("response", {"sustained_pr": False}, "Each visit was judged by the thresholds alone"),
        ("response", {"reappearance_is_pd": False}, "by the 20% and 5 mm rule alone"),
        ("response", {"evaluator": "INVESTIGATOR"}, "is the one recorded by INVESTIGATOR"),
        ("imputation", {"death": "middle"}, "for: death (middle possible day)"),
        ("toxicity", {"window_days": 1}, "from the first dose to 1 day after the last"),
    ],
)
def test_a_setting_changes_its_sentence(
    small: Case, part: str, changes: dict[str, Any], expected: str
) -> None:
    """No method is described that was not run."""
    assert expected not in _text(small)
    changed = getattr(small.study, part).model_copy(update=changes)
    small.study = small.study.model_copy(update={part: changed})
    assert expected in _text(small)


def test_remarks_of_the_analysis_follow(small: Case) -> None:
    """Sentences that the analysis leaves are repeated."""
    small.results.methods.append("Two subjects without a grade were left out of the trend test.")
    assert _text(small).endswith("Two subjects without a grade were left out of the trend test.")
