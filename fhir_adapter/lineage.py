"""Lineage: from a row of a dataset to the rows it was made from, and from those to resources.

A lineage row says that row `SEQ` of `DATASET` of a subject was made from row `PARENTSEQ` of `PARENT`, in a role
(`sum` a measurement in a sum of diameters, `nadir`, `baseline`, `event`, `best`, `start`, `source`).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

__all__ = ["COLUMNS", "Link", "frame", "parents"]

COLUMNS = ("USUBJID", "DATASET", "SEQ", "PARENT", "PARENTSEQ", "ROLE")
Link = tuple[str, str, int, str, int, str]


def frame(links: Iterable[Link], *tables: pd.DataFrame) -> pd.DataFrame:
    """The lineage dataset of some links, in a deterministic order, without duplicates.

    Args:
        links: one by one.
        tables: many at once, with the columns of `COLUMNS`.
    """
    first = pd.DataFrame(list(links), columns=list(COLUMNS))
    table = pd.concat([first, *tables], ignore_index=True) if tables else first
    numbers = {"SEQ": "int64", "PARENTSEQ": "int64"}
    table = table.astype(numbers)
    # Each column as ranks: an order of numbers is much faster than one of texts.
    ranks = [
        table[name].to_numpy() if name in numbers else pd.factorize(table[name], sort=True)[0]
        for name in COLUMNS
    ]
    order = np.lexsort(ranks[::-1])
    changes = np.zeros(len(table), dtype=np.bool_)
    changes[:1] = True
    for rank in ranks:
        ordered = rank[order]
        changes[1:] |= ordered[1:] != ordered[:-1]
    return table.iloc[order[changes]].reset_index(drop=True)


def parents(lineage: pd.DataFrame, usubjid: str, dataset: str, seq: int) -> list[tuple[str, int, str]]:
    """(dataset, SEQ, role) of the rows from which one row was made."""
    own = lineage[(lineage["USUBJID"] == usubjid) & (lineage["DATASET"] == dataset) & (lineage["SEQ"] == seq)]
    return [
        (str(p), int(s), str(r)) for p, s, r in own[["PARENT", "PARENTSEQ", "ROLE"]].itertuples(index=False)
    ]
