"""The look of all figures, and the way from a matplotlib figure to SVG that a page can hold.

One figure gives two SVG texts: a file with fixed colours, for slides and manuscripts, and the same drawing
for the page, in which ink is `currentColor` and series have CSS variables, so that it follows light, dark
and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fhir_adapter.report.formatting import Piece

__all__ = [
    "FAINT",
    "INK",
    "PAPER",
    "SERIES",
    "SOFT",
    "Drawing",
    "Note",
    "add_bar",
    "clean_axes",
    "drawing",
    "series_colour",
]

# Written as colours that occur nowhere else, so that the page's version can replace them.
INK = "#1b1f24"
SOFT = "#5b636d"
FAINT = "#c9ced5"
PAPER = "#fffffe"
#: Okabe and Ito's palette without its yellow (too light as a line), darkened for contrast on white.
SERIES = ("#0b66a5", "#c04f0b", "#0a7f5f", "#a3497d", "#8f6400", "#4a5a9f", "#737373", "#7a3e2f")

_PAGE_COLOURS: Mapping[str, str] = {
    INK: "currentColor",
    SOFT: f"var(--figure-soft, {SOFT})",
    FAINT: f"var(--figure-faint, {FAINT})",
    PAPER: f"var(--paper, {PAPER})",
    **{colour: f"var(--series-{index}, {colour})" for index, colour in enumerate(SERIES, start=1)},
}

_RC: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fhir-adapter",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a label is a dollar sign
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.solid_capstyle": "butt",
    "hatch.linewidth": 0.8,
}

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class Note:
    """What an element of a drawing says when it is pointed at, and which result it shows."""

    title: str = ""
    result: str = ""


@dataclass(slots=True)
class Drawing:
    """A finished figure.

    Attributes:
        id: slug of the figure; prefix of every id in its SVG.
        title: short name, the accessible name of the image.
        description: what can be seen, in words.
        file: SVG text with fixed colours.
        page: SVG text for inlining.
        summary: sentences below the figure, in pieces.
        min_width: CSS pixels below which the figure scrolls instead of shrinking.
    """

    id: str
    title: str
    description: str
    file: str = ""
    page: str = ""
    summary: list[tuple[Piece, ...]] = field(default_factory=list)
    min_width: int = 640
    notes: dict[str, Note] = field(default_factory=dict)

    def note(self, title: str, result: str = "") -> str:
        """A fresh gid for an artist, with what is said about it."""
        gid = f"e{len(self.notes) + 1}"
        self.notes[gid] = Note(title, result)
        return gid


@contextmanager
def drawing(
    id_: str, title: str, description: str, size: tuple[float, float]
) -> Iterator[tuple[Figure, Drawing]]:
    """A figure of `size` inches to draw on; on leaving, the drawing has its SVG texts.

    No global state of pyplot is touched: the figure is made directly, the settings hold in the block.
    """
    result = Drawing(id=id_, title=title, description=description)
    with mpl.rc_context(_RC):  # type: ignore[arg-type]
        figure = Figure(figsize=size)
        yield figure, result
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    _finish(result, buffer.getvalue())


def clean_axes(axes: Axes, *, grid: str | None = "y") -> None:
    """Outward ticks, and faint lines across where a reader needs them."""
    axes.tick_params(length=3, width=0.8)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=FAINT, linewidth=0.6)  # type: ignore[arg-type]


def add_bar(
    axes: Axes, corner: tuple[float, float], width: float, height: float, colour: str, gid: str
) -> None:
    """A rectangle in data coordinates, with limits left alone: `Axes.bar` is slow with thousands."""
    axes.add_artist(Rectangle(corner, width, height, facecolor=colour, linewidth=0, gid=gid))


def series_colour(index: int) -> str:
    """Colour of the n-th series (from 0); after the last it starts again."""
    return SERIES[index % len(SERIES)]


def _finish(result: Drawing, svg: str) -> None:
    ET.register_namespace("", _SVG)
    root = ET.fromstring(svg)  # noqa: S314 - our own output of a moment ago
    _strip(root)
    _prefix(root, result.id)
    _annotate(root, result)
    result.file = '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    page = ET.tostring(root, encoding="unicode")
    for fixed, variable in _PAGE_COLOURS.items():
        page = page.replace(fixed, variable)
    result.page = page


def _strip(root: ET.Element) -> None:
    """Removes what is of no use, or would reach beyond the figure once it is in a page (its style sheet)."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}metadata") or child.tag.endswith("}style"):
                parent.remove(child)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith("}defs") and not len(child):
                parent.remove(child)
    for element in root.iter():
        # matplotlib indents its output; between elements of an SVG, blanks mean nothing
        if element.text is not None and not element.text.strip():
            element.text = None
        if element.tail is not None and not element.tail.strip():
            element.tail = None
        if "style" in element.attrib:
            element.set("style", re.sub(r"'DejaVu Sans'(, sans-serif)?", _FONTS, element.attrib["style"]))
    root.set("stroke-linejoin", "round")


def _prefix(root: ET.Element, prefix: str) -> None:
    """Makes ids unique in the page, and drops those that nothing refers to and nobody annotates."""

    def new(name: str) -> str:
        return f"{prefix}-{name}"

    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", ET.tostring(root, encoding="unicode")))
    for element in root.iter():
        name = element.attrib.get("id")
        if name is not None:
            if name in used or re.fullmatch(r"e\d+", name):
                element.set("id", new(name))
            else:
                del element.attrib["id"]
        link = element.attrib.pop(_XLINK, None)
        if link is not None:
            element.set("href", "#" + new(link[1:]))
        for key, value in list(element.attrib.items()):
            if "url(#" in value:
                element.set(key, value.replace("url(#", f"url(#{prefix}-"))


def _annotate(root: ET.Element, result: Drawing) -> None:
    """Adds the image's name and description, and a <title> (a tooltip) to each noted element."""
    notes = {f"{result.id}-{gid}": note for gid, note in result.notes.items()}
    for element in root.iter():
        note = notes.get(element.attrib.get("id", ""))
        if note is None:
            continue
        if note.title:
            title = ET.Element(f"{{{_SVG}}}title")
            title.text = note.title
            element.insert(0, title)
        if note.result:
            element.set("data-result", note.result)
    root.set("role", "img")
    root.set("aria-labelledby", f"{result.id}-title {result.id}-desc")
    for position, (tag, text) in enumerate((("title", result.title), ("desc", result.description))):
        child = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{result.id}-{tag}"})
        child.text = text
        root.insert(position, child)
