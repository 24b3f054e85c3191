"""The verb about the ledger of trials: what was looked at, and looks that were taken elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swiftbolt.console import note as say
from swiftbolt.console import print_json, print_line, print_table
from swiftbolt.errors import ConfigError
from swiftbolt.verbs.shared import AsJson, open_store

if TYPE_CHECKING:
    from swiftbolt.store import TrialRow
    from swiftbolt.trial import Trial

SYMBOLS_NAMED = 3  # of a long list, in a table


def trials(
    model: Annotated[
        str | None, typer.Option(help="Only looks at this model; with --note, the model looked at.")
    ] = None,
    note: Annotated[
        str | None, typer.Option(help="Enter a look that was taken elsewhere, such as in a notebook: what was tried.")
    ] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="With --note: sessions ahead.")] = None,
    symbol: Annotated[
        list[str] | None,
        typer.Option(help="With --note: a symbol looked at; repeatable. Without any, the look counts for all symbols."),
    ] = None,
    start: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="With --note: first day looked at.")
    ] = None,
    end: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="With --note: last day looked at.")] = None,
    as_json: AsJson = False,
) -> None:
    """List every configuration that was ever evaluated, or add a look that was taken elsewhere.

    The ledger only grows. Whatever is in it counts when a Sharpe ratio on the same symbols and years is judged.
    """
    if note is None:
        _refuse_without_note({"--horizon": horizon, "--symbol": symbol, "--start": start, "--end": end})
        with open_store() as store:
            rows = store.trials(model)
        _show(rows, model, as_json)
        return
    trial = _noted(note, model, horizon, symbol or (), start, end)
    with open_store() as store:
        is_new = store.record_trials([trial]) == 1
    if as_json:
        print_json({"key": trial.key, "new": is_new})
    else:
        print_line("the look is in the ledger" if is_new else "the ledger holds that look already")


def _noted(
    text: str,
    model: str | None,
    horizon: int | None,
    symbols: Sequence[str],
    start: datetime | None,
    end: datetime | None,
) -> Trial:
    """A look that was taken elsewhere.

    Raises:
        ConfigError: it says nothing, or not of which days, or a symbol is blank.
    """
    from swiftbolt.artifact import code_version
    from swiftbolt.trial import Trial

    if not text.strip():
        raise ConfigError("swiftbolt trials", "--note", "says nothing: write what was tried")
    if start is None or end is None:
        raise ConfigError("swiftbolt trials", "--note", "needs --start and --end, the days looked at")
    if start > end:
        raise ConfigError("swiftbolt trials", "--start", f"lies after --end: {start.date()} and {end.date()}")
    if not all(name.strip() for name in symbols):
        raise ConfigError(
            "swiftbolt trials", "--symbol", "names nothing; without --symbol a look counts for all symbols"
        )
    return Trial(
        model=model,
        horizon=horizon,
        config={"note": text.strip()},
        symbols=tuple(sorted({name.strip().upper() for name in symbols})),
        first=start.date(),
        last=end.date(),
        returns=None,
        reason="looked at elsewhere",
        source="note",
        code_version=code_version(),
    )


def _refuse_without_note(options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if value is not None:
            raise ConfigError("swiftbolt trials", name, "belongs to --note, which says what was tried")


def _show(rows: Sequence[TrialRow], model: str | None, as_json: bool) -> None:
    if as_json:
        print_json([asdict(row) for row in rows])
    elif rows:
        print_table([_readable(row) for row in rows])
        told = sum(row.sessions is not None for row in rows)
        print_line(f"{len(rows)} look{'' if len(rows) == 1 else 's'} in the ledger, {told} with daily returns")
    else:
        say(f"no look{f' at {model}' if model else ''} yet; swiftbolt evaluate records each of its models")


def _readable(row: TrialRow) -> dict[str, Any]:
    named = ", ".join(row.symbols[:SYMBOLS_NAMED])
    more = len(row.symbols) - SYMBOLS_NAMED
    return {
        "when": f"{row.recorded_at:%Y-%m-%d %H:%M}",
        "source": row.source if row.state == "complete" else f"{row.source}, {row.state}",
        "model": row.model,
        "horizon": row.horizon,
        "symbols": f"{named} and {more} more" if more > 0 else named or "any",
        "origins": f"{row.first} to {row.last}",
        "Sharpe": "" if row.sharpe is None else f"{_annual(row.sharpe):.2f}",
        "skill": "" if row.skill is None else f"{row.skill:+.2%}",
        "note": row.config["note"] if row.source == "note" else row.reason,
    }


def _annual(sharpe: float) -> float:
    from swiftbolt.evaluation.equity import SESSIONS_PER_YEAR

    return math.sqrt(SESSIONS_PER_YEAR) * sharpe
