"""What several verbs need: ``--json``, the store and its rows, a check of ``--out``, another program in our place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from swiftbolt.console import note, print_json, print_table
from swiftbolt.errors import ConfigError

if TYPE_CHECKING:
    from swiftbolt.store import Store

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on stdout.")]
HOW_TO_RETRAIN = "swiftbolt retrain --config configs/retrain/demo.yaml"


@contextmanager
def open_store() -> Iterator[Store]:
    """The store of this environment, its schema brought up to date."""
    from swiftbolt.settings import Settings
    from swiftbolt.store import Store, resolve_url

    with Store.connect(resolve_url(Settings())) as store:
        store.migrate()
        yield store


def fields_of(row: object, names: Sequence[str]) -> dict[str, Any]:
    """Some attributes of a row, by name."""
    return {name: getattr(row, name) for name in names}


def show_rows(rows: Sequence[dict[str, Any]], as_json: bool, when_empty: str) -> None:
    """A list as JSON or as a table; for people, ``when_empty`` where there is nothing in it."""
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        note(when_empty)


def refuse_overwriting(verb: str, out: Path, inputs: Iterable[Path]) -> None:
    """Refuse an ``--out`` that is one of the files to be read.

    Raises:
        ConfigError: it is.
    """
    for given in inputs:
        if out.exists() and given.exists() and out.samefile(given):
            raise ConfigError(f"swiftbolt {verb}", "--out", f"{out} is the file {given} itself; choose another")


def become(module: str, *arguments: str) -> NoReturn:
    """Go on as ``python -m module``: its signals and its exit status are then this program's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
