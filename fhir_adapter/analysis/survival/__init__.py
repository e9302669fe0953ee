"""Survival statistics with the conventions of R's `survival` package (Therneau).

| function | answers | module |
|---|---|---|
| `kaplan_meier`, `reverse_km` | curve, median, landmarks | `curves` |
| `at_risk`, `cumulative_events` | the table below a plot | `curves` |
| `log_rank` | k-sample, stratified, trend and Fleming-Harrington tests | `logrank` |
| `cox` | proportional hazards regression | `regression` |
| `proportional_hazards` | score test of the proportional hazards assumption | `assumption` |
| `rmst` | restricted mean survival time | `restricted` |

All functions pair their columns by position, not by index label. Time is in one unit of the caller's choice
(days or months). None means not reached or not estimable, never NaN, and the result's `reason` says why.
Rows with a missing value are dropped and counted in `n_missing`. An argument that makes no sense is a
ValueError; data that are too few are not. Times that differ by rounding noise only (1.5e-8, absolute or
relative to the mean time) are tied, as in R.
"""

from .assumption import proportional_hazards
from .curves import at_risk, cumulative_events, kaplan_meier, reverse_km
from .logrank import log_rank
from .regression import cox
from .restricted import rmst
from .results import (
    CoxResult,
    CoxTerm,
    KaplanMeierResult,
    Landmark,
    LogRankResult,
    ModelTest,
    ProportionalHazardsResult,
    RmstResult,
    Step,
    ZphTerm,
)

__all__ = [
    "CoxResult",
    "CoxTerm",
    "KaplanMeierResult",
    "Landmark",
    "LogRankResult",
    "ModelTest",
    "ProportionalHazardsResult",
    "RmstResult",
    "Step",
    "ZphTerm",
    "at_risk",
    "cox",
    "cumulative_events",
    "kaplan_meier",
    "log_rank",
    "proportional_hazards",
    "reverse_km",
    "rmst",
]
