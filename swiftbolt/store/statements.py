"""The SQL files of this folder, by name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEADING = re.compile(r"^-- name: (\w+)$", flags=re.MULTILINE)


def statement(name: str) -> bytes:
    """The statement of ``queries.sql`` under ``-- name: <name>``."""
    return _statements()[name]


@cache
def _statements() -> dict[str, bytes]:
    text = (resources.files(__package__) / "queries.sql").read_text(encoding="utf-8")
    _, *parts = _HEADING.split(text)
    return {name: body.strip().encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def migrations() -> list[tuple[str, bytes]]:
    """Every migration as its name and its SQL, in the order they are applied."""
    folder = resources.files(__package__) / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [(file.name.removesuffix(".sql"), file.read_bytes()) for file in files]
