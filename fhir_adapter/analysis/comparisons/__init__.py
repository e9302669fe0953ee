"""Named tests of contingency tables and intervals of proportions, as the study file names them.

`TESTS` maps the name of a test to its function; all but `log_rank` take a table of counts (groups x
outcomes) and return a `TestResult`. `INTERVALS` has the intervals of one proportion (x, n), `DIFFERENCES`
and `ODDS_RATIOS` those that compare two proportions (x1, n1, x2, n2); all return an `Interval` on the scale
of the quantity (not percent). None means not estimable, and `reason` says why.
"""

from collections.abc import Callable

from .exact import MAX_NODES, fisher_exact
from .intervals import (
    clopper_pearson,
    miettinen_nurminen,
    newcombe,
    odds_ratio_exact,
    odds_ratio_wald,
    wilson,
)
from .rates import poisson_exact
from .results import Interval, TestResult
from .tables import cochran_armitage, likelihood_ratio, linear_by_linear, log_rank, pearson_chi2

__all__ = [
    "DIFFERENCES",
    "INTERVALS",
    "MAX_NODES",
    "ODDS_RATIOS",
    "TESTS",
    "Interval",
    "TestResult",
    "clopper_pearson",
    "cochran_armitage",
    "fisher_exact",
    "likelihood_ratio",
    "linear_by_linear",
    "log_rank",
    "miettinen_nurminen",
    "newcombe",
    "odds_ratio_exact",
    "odds_ratio_wald",
    "pearson_chi2",
    "poisson_exact",
    "wilson",
]

TESTS: dict[str, Callable[..., TestResult]] = {
    "pearson_chi2": pearson_chi2,
    "fisher_exact": fisher_exact,
    "likelihood_ratio": likelihood_ratio,
    "linear_by_linear": linear_by_linear,
    "cochran_armitage": cochran_armitage,
    "log_rank": log_rank,
}

INTERVALS: dict[str, Callable[..., Interval]] = {
    "clopper_pearson": clopper_pearson,
    "wilson": wilson,
}

DIFFERENCES: dict[str, Callable[..., Interval]] = {
    "newcombe": newcombe,
    "miettinen_nurminen": miettinen_nurminen,
}

ODDS_RATIOS: dict[str, Callable[..., Interval]] = {
    "odds_ratio_wald": odds_ratio_wald,
    "odds_ratio_exact": odds_ratio_exact,
}
