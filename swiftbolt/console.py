"""How the command line speaks: results on stdout (a table, or JSON alone), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def print_json(value: object) -> None:
    """One JSON document; dates and times as ISO 8601, paths as text."""
    sys.stdout.write(json.dumps(value, default=_plain, indent=1, allow_nan=False) + "\n")


def print_line(line: str) -> None:
    """One line of the result."""
    sys.stdout.write(line + "\n")


def note(line: str) -> None:
    """One line beside the result: what was skipped, quarantined or is going on."""
    sys.stderr.write(line + "\n")


def print_table(rows: Rows, title: str = "") -> None:
    """Rows as a table, numbers to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], (int, float)) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    # In a pipe there is no width to keep to, and a reader of files wants no folded cell.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar while the block runs, on stderr where that is a terminal; hands out what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def working(what: str) -> Iterator[None]:
    """A sign of life on stderr for work whose end cannot be told beforehand."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
    return str(value)
