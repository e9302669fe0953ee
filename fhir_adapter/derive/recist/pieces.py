"""Lesions that split into fragments, and lesions that merged (Eisenhauer 2009, 4.3.2; EORTC FAQ).

When a non-nodal lesion fragments, the longest diameters of the fragments are added together; when lesions have
truly coalesced, the longest diameter of the coalesced lesion is measured. Of a node the same holds of the short
axes.

Names say what a piece is, as SDTM's TULNKID does: `T01.1` and `T01.2` are fragments of `T01`, `T01/T02` is what
`T01` and `T02` merged into (`T01.1/T01.2` are fragments that joined again). A name is read so only where the
subject has the lesions that it names; any other lesion may have a point or a stroke in its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Pieces", "has_pieces", "link_pieces", "list_pieces", "named_parts", "resolve_sizes"]

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_FRAGMENT: Final = re.compile(r"(.+?)\.\d+")


def named_parts(link: str) -> tuple[str, ...]:
    """The lesions that a name is made of: `T01.1` → (`T01`,), `T01/T02` → (`T01`, `T02`), `T01` → ()."""
    if "/" in link:
        parts = tuple(part.strip() for part in link.split("/"))
        return parts if all(parts) else ()
    fragment = _FRAGMENT.fullmatch(link)
    return (fragment[1],) if fragment is not None else ()


def has_pieces(*names: Iterable[Any]) -> bool:
    """Whether one of the names can be that of a piece; as a rule none is."""
    return any(isinstance(name, str) and bool(named_parts(name)) for some in names for name in some)


def list_pieces(tu: pd.DataFrame, tr: pd.DataFrame) -> pd.DataFrame:
    """Adds to TU the pieces that only TR names, if the lesions that they are made of are listed.

    Args:
        tu: USUBJID, TULNKID, TUSTRESC, NODAL.
        tr: USUBJID, TRLNKID.

    Returns:
        `tu` and a row per piece: a target if one of its lesions is a target, a node if all of them are nodes.
    """
    listed = {
        (subject, link): (role, nodal)
        for subject, link, role, nodal in tu[["USUBJID", "TULNKID", "TUSTRESC", "NODAL"]].itertuples(
            index=False
        )
    }
    pairs = tr[["USUBJID", "TRLNKID"]].drop_duplicates()
    names = {name: named_parts(name) for name in pairs["TRLNKID"].unique() if isinstance(name, str)}
    pairs = pairs[pairs["TRLNKID"].map(lambda name: bool(names.get(name)))]
    added: list[tuple[Any, ...]] = []
    # Fragments before what they merged into, which may be listed by its fragments.
    for subject, link in sorted(pairs.itertuples(index=False), key=lambda pair: "/" in pair[1]):
        parts = [listed.get((subject, part)) for part in names[link]]
        found = [part for part in parts if part is not None]
        if (subject, link) in listed or len(found) < len(parts):
            continue
        roles = [str(role).strip().upper() for role, _ in found]
        role = next((one for one in ("TARGET", "NON-TARGET", "NEW") if one in roles), roles[0])
        nodal = all(bool(node) for _, node in found if not pd.isna(node))
        listed[subject, link] = (role, nodal)
        added.append((subject, link, role, nodal))
    more = pd.DataFrame(added, columns=["USUBJID", "TULNKID", "TUSTRESC", "NODAL"], dtype=object)
    own = tu[["USUBJID", "TULNKID", "TUSTRESC", "NODAL"]].astype(object)
    return pd.concat([own, more], ignore_index=True) if added else tu


@dataclass(frozen=True, eq=False)
class Pieces:
    """Which lesions are pieces of which.

    Attributes:
        piece: per link of a piece with a lesion: the piece, a lesion's position.
        part: the lesion that it is a fragment of, or that merged into it.
        merged: whether the piece is a merged lesion (else a fragment).
        first: whether the part is the first one that the piece names.
    """

    piece: Ints
    part: Ints
    merged: Bools
    first: Bools

    def is_piece(self, lesions: int) -> Bools:
        """Per lesion whether it is a piece of others."""
        found = np.zeros(lesions, dtype=np.bool_)
        found[self.piece] = True
        return found


def link_pieces(subject: Ints, links: npt.NDArray[np.object_]) -> Pieces:
    """Finds the pieces among lesions.

    Args:
        subject: per lesion its subject.
        links: per lesion its name.
    """
    place = {(int(who), link): number for number, (who, link) in enumerate(zip(subject, links, strict=True))}
    found: list[tuple[int, int, bool, bool]] = []
    names = {link: named_parts(link) for link in set(links) if isinstance(link, str)}
    for number, (who, link) in enumerate(zip(subject, links, strict=True)):
        parts = [place.get((int(who), part)) for part in names.get(link, ())]
        if parts and None not in parts:
            found += [(number, part, "/" in link, part == parts[0]) for part in parts if part is not None]
    table = np.array(found, dtype=np.int64).reshape(-1, 4)
    return Pieces(table[:, 0], table[:, 1], table[:, 2] == 1, table[:, 3] == 1)


def resolve_sizes(
    pieces: Pieces, visit: Ints, lesion: Ints, size: Ints, first_visit: Ints
) -> tuple[Bools, Ints, Ints]:
    """What counts where a lesion was measured in pieces.

    Where both a merged lesion and its parts have sizes at a visit, or a lesion and its fragments, the larger
    of the two sums counts. A lesion is assessed if it, or what it merged into, or all its fragments were
    measured; a fragment is looked for from the visit on at which it first has a row.

    Args:
        pieces: the pieces.
        visit: per row of a target with a size its visit.
        lesion: its lesion.
        size: its size.
        first_visit: per lesion the visit of its first row of any kind.

    Returns:
        Per row whether its size counts; and visits and lesions (no pieces) that count as assessed beside those
        with a size of their own.
    """
    # Only the visits of subjects with pieces come here: few enough for plain loops.
    kin: dict[int, list[tuple[int, bool]]] = {}
    parts_of: dict[int, list[int]] = {}
    for piece, part, merged in zip(
        pieces.piece.tolist(), pieces.part.tolist(), pieces.merged.tolist(), strict=True
    ):
        kin.setdefault(part, []).append((piece, merged))
        parts_of.setdefault(piece, []).append(part)
    concerned = np.isin(lesion, np.concatenate([pieces.piece, pieces.part]))
    cells: dict[int, dict[int, int]] = {}
    for row in np.flatnonzero(concerned).tolist():
        sizes = cells.setdefault(int(visit[row]), {})
        sizes[int(lesion[row])] = max(int(size[row]), sizes.get(int(lesion[row]), 0))
    dropped: set[tuple[int, int]] = set()
    assessed: list[tuple[int, int]] = []
    for at, sizes in cells.items():
        lost, whole = _of_visit(
            sizes, at, kin, parts_of, set(pieces.piece[pieces.merged].tolist()), first_visit
        )
        dropped |= {(at, one) for one in lost}
        assessed += [(at, one) for one in whole]
    keep = np.ones(len(lesion), dtype=np.bool_)
    for row in np.flatnonzero(concerned).tolist():
        keep[row] = (int(visit[row]), int(lesion[row])) not in dropped
    table = np.array(assessed, dtype=np.int64).reshape(-1, 2)
    return keep, table[:, 0], table[:, 1]


def _of_visit(
    sizes: dict[int, int],
    at: int,
    kin: dict[int, list[tuple[int, bool]]],
    parts_of: dict[int, list[int]],
    is_merged: set[int],
    first_visit: Ints,
) -> tuple[set[int], set[int]]:
    """The lesions whose size does not count at a visit, and the whole lesions that were assessed in pieces."""
    lost: set[int] = set()
    covered: set[int] = set()

    def fragments(of: int) -> list[int]:
        return [piece for piece, merged in kin.get(of, []) if not merged]

    for piece in (one for one in sizes if one in is_merged):
        parts = parts_of[piece]
        beside = {one for part in parts for one in (part, *fragments(part))} & set(sizes)
        covered.update(parts)
        lost |= beside if sizes[piece] >= sum(sizes[one] for one in beside) else {piece}
    # Fragments that fragmented again come before the lesions that they are of.
    for lesion in sorted(kin, key=lambda one: one not in parts_of):
        pieces = fragments(lesion)
        measured = [one for one in pieces if one in sizes]
        expected = [one for one in pieces if first_visit[one] <= at]
        if lesion in sizes and measured:
            more = sum(sizes[one] for one in measured) >= sizes[lesion]
            lost |= {lesion} if more else set(measured)
            covered.add(lesion)
        if expected and all(one in sizes or one in covered for one in expected):
            covered.add(lesion)
    return lost, {one for one in covered if one not in parts_of}
