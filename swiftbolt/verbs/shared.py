"""What several verbs need: the ``--json`` option, the store, a check of ``--out``, another program in our place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from swiftbolt.errors import ConfigError

if TYPE_CHECKING:
    from swiftbolt.store import Store

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on stdout.")]


@contextmanager
def open_store() -> Iterator[Store]:
    """The store of this environment, its schema brought up to date."""
    from swiftbolt.settings import Settings
    from swiftbolt.store import Store, resolve_url

    with Store.connect(resolve_url(Settings())) as store:
        store.migrate()
        yield store


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
