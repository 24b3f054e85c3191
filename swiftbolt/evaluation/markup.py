"""Pieces of HTML that the pages share; everything that is said in them is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

Cell = tuple[str, str]
"""What a cell says, and its attributes, escaped already."""


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def quiet(text: str) -> str:
    """A paragraph that stands back."""
    return f'<p class="quiet">{escape(text)}</p>'


def html_table(heads: Sequence[str], lines: Iterable[Sequence[Cell]]) -> str:
    """A table that scrolls by itself where it is too wide for the page."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    rows = "\n".join(
        "<tr>" + "".join(f"<td{attributes}>{escape(text)}</td>" for text, attributes in line) + "</tr>"
        for line in lines
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
