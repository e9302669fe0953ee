"""Lineage: from a row of a dataset to the rows it was made from, and from those to resources.

A lineage row says that row `SEQ` of `DATASET` of a subject was made from row `PARENTSEQ` of `PARENT`, in a role
(`sum` a measurement in a sum of diameters, `nadir`, `baseline`, `event`, `best`, `start`, `source`).
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

__all__ = ["COLUMNS", "Link", "frame", "parents"]

COLUMNS = ("USUBJID", "DATASET", "SEQ", "PARENT", "PARENTSEQ", "ROLE")
Link = tuple[str, str, int, str, int, str]


def frame(links: Iterable[Link]) -> pd.DataFrame:
    """The lineage dataset of some links, in a deterministic order, without duplicates."""
    rows = sorted(set(links))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype({"SEQ": "int64", "PARENTSEQ": "int64"})


def parents(lineage: pd.DataFrame, usubjid: str, dataset: str, seq: int) -> list[tuple[str, int, str]]:
    """(dataset, SEQ, role) of the rows from which one row was made."""
    own = lineage[(lineage["USUBJID"] == usubjid) & (lineage["DATASET"] == dataset) & (lineage["SEQ"] == seq)]
    return [
        (str(p), int(s), str(r)) for p, s, r in own[["PARENT", "PARENTSEQ", "ROLE"]].itertuples(index=False)
    ]
