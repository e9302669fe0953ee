"""Best overall response and objective response (Eisenhauer 2009, 4.4.2 to 4.4.4 and 4.6).

The conventions are those of the pharmaverse (`admiralonco`), so that results can be put side by side.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from fhir_adapter.derive.recist.columns import NO_DAY
from fhir_adapter.derive.recist.confirmation import confirmed_responses
from fhir_adapter.derive.recist.records import (
    CR,
    NE,
    NON,
    PR,
    SD,
    Records,
    first_per_subject,
    read_records,
    result,
)
from fhir_adapter.derive.recist.vocabulary import BEST_ORDER

__all__ = [
    "best_overall_response",
    "confirmed_best_overall_response",
    "confirmed_objective_response",
    "objective_response",
]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_MISSING: Final = BEST_ORDER.index("MISSING")
_WORDS: Final = np.array(BEST_ORDER, dtype=object)


def best_overall_response(
    rs: pd.DataFrame,
    reference: pd.DataFrame,
    pd: pd.DataFrame | None = None,
    ref_start_window: int = 42,
    missing_as_ne: bool = False,
) -> pd.DataFrame:
    """Best overall response without confirmation (Eisenhauer 2009, 4.4.3).

    The best of the subject's records in the order CR, PR, SD, NON-CR/NON-PD, PD, NE, ND. CR, PR and PD count
    whenever they are; SD and NON-CR/NON-PD only from the window on, earlier ones count as NE. Of several
    records on a day the worst counts, in the order ND, NE, CR, PR, SD, NON-CR/NON-PD, PD. Records after the
    cut do not count, those on its day do.

    Args:
        rs: response records: USUBJID, ADT (datetime64, dates or complete ISO texts), AVALC (CR, PR, SD,
            NON-CR/NON-PD, PD, NE, ND). Records of subjects that are not in `reference` are not used.
        reference: one row per subject: USUBJID, ADT, the day the window starts from. A subject without a date
            there has no SD or NON-CR/NON-PD: they count as NE.
        pd: dates of progression: USUBJID, ADT. Only they cut, the earliest of a subject; a subject without a
            row or without a date in it is not cut. None: the cut is the first PD in `rs`.
        ref_start_window: days from the reference date (no + 1) from which SD counts.
        missing_as_ne: a subject without records is NE instead of MISSING.

    Returns:
        One row per subject of `reference`, by USUBJID: USUBJID, AVALC, ADT (datetime64[ns]) of the first
        record that qualifies, NaT for a subject without records.

    Raises:
        ValueError: an AVALC that is none of these (named), a record without a date, a subject twice in
            `reference`.
    """
    records = read_records(rs, reference, pd)
    early = ~records.in_window(ref_start_window)
    unstable = (records.response == SD) | (records.response == NON)
    return _best(records, np.where(unstable & early, NE, records.response), missing_as_ne)


def confirmed_best_overall_response(
    rs: pd.DataFrame,
    reference: pd.DataFrame,
    pd: pd.DataFrame | None = None,
    ref_start_window: int = 42,
    ref_confirm: int = 28,
    max_nr_ne: int = 1,
    accept_sd: bool = False,
    missing_as_ne: bool = False,
) -> pd.DataFrame:
    """Best overall response where CR and PR need a confirmation (Eisenhauer 2009, 4.4.3, Table 3).

    A CR is confirmed by a CR at least `ref_confirm` days later with only CR and at most `max_nr_ne` NE
    between. A PR is confirmed by a CR or PR at least `ref_confirm` days later if every record strictly
    between is CR, PR, SD or NE, at most `max_nr_ne` of them NE and none SD (one with `accept_sd`), and no PR
    follows a CR among the records after the PR up to and including the confirming one. What came before the
    PR does not matter. A CR that no CR confirms is not counted as PR. A CR or PR that is not confirmed counts
    as SD from the window on, before it as NE. ND is not NE: it breaks a confirmation. The rest is as in
    `best_overall_response`.

    Args:
        rs: as in `best_overall_response`.
        reference: as in `best_overall_response`.
        pd: as in `best_overall_response`.
        ref_start_window: days from the reference date (no + 1) from which SD counts.
        ref_confirm: days between a response and the record that confirms it, at least.
        max_nr_ne: number of NE between them, at most.
        accept_sd: one SD between a PR and the record that confirms it is accepted.
        missing_as_ne: a subject without records is NE instead of MISSING.

    Returns:
        As `best_overall_response`; ADT of a confirmed response is that of the record that was confirmed.

    Raises:
        ValueError: as `best_overall_response`.
    """
    records = read_records(rs, reference, pd)
    confirmed_cr, confirmed_pr = confirmed_responses(
        records, ref_confirm=ref_confirm, max_nr_ne=max_nr_ne, accept_sd=accept_sd
    )
    response = records.response
    in_window = records.in_window(ref_start_window)
    responds = (response == CR) | (response == PR)
    counts_as = np.select(
        [
            confirmed_cr | confirmed_pr,
            ~in_window & (responds | (response == SD) | (response == NON)),
            responds,
        ],
        [response, NE, SD],
        response,
    )
    return _best(records, counts_as, missing_as_ne)


def objective_response(
    rs: pd.DataFrame, reference: pd.DataFrame, pd: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Whether a subject has a CR or PR up to the cut; no window and no confirmation.

    Args:
        rs: as in `best_overall_response`.
        reference: as in `best_overall_response`; its dates are not used.
        pd: as in `best_overall_response`.

    Returns:
        One row per subject of `reference`, by USUBJID: USUBJID, AVALC (Y or N), ADT of the first CR or PR,
        else NaT.

    Raises:
        ValueError: as `best_overall_response`.
    """
    records = read_records(rs, reference, pd)
    return _objective(records, (records.response == CR) | (records.response == PR))


def confirmed_objective_response(
    rs: pd.DataFrame,
    reference: pd.DataFrame,
    pd: pd.DataFrame | None = None,
    ref_confirm: int = 28,
    max_nr_ne: int = 1,
    accept_sd: bool = False,
) -> pd.DataFrame:
    """Whether a subject has a confirmed CR or PR up to the cut; no window.

    Args:
        rs: as in `best_overall_response`.
        reference: as in `best_overall_response`; its dates are not used.
        pd: as in `best_overall_response`.
        ref_confirm: as in `confirmed_best_overall_response`.
        max_nr_ne: as in `confirmed_best_overall_response`.
        accept_sd: as in `confirmed_best_overall_response`.

    Returns:
        As `objective_response`; ADT is that of the first record that was confirmed.

    Raises:
        ValueError: as `best_overall_response`.
    """
    records = read_records(rs, reference, pd)
    confirmed_cr, confirmed_pr = confirmed_responses(
        records, ref_confirm=ref_confirm, max_nr_ne=max_nr_ne, accept_sd=accept_sd
    )
    return _objective(records, confirmed_cr | confirmed_pr)


def _best(records: Records, counts_as: Ints, missing_as_ne: bool) -> pd.DataFrame:
    best, day = first_per_subject(records, counts_as, NE if missing_as_ne else _MISSING)
    return result(records, _WORDS[best], day)


def _objective(records: Records, responds: Bools) -> pd.DataFrame:
    no, day = first_per_subject(records, (~responds).astype(np.int64), 1)
    yes = no == 0
    return result(records, np.where(yes, "Y", "N").astype(object), np.where(yes, day, NO_DAY))
