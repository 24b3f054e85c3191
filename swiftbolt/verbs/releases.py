"""Verbs about what retrains left: releases, promote, rollback, forecast."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swiftbolt.console import note, print_json, print_line, print_table
from swiftbolt.errors import ArtifactMismatch, ConfigError, NoForecast, NoRelease, NotFound
from swiftbolt.verbs.shared import HOW_TO_RETRAIN, AsJson, fields_of, open_store, show_rows

if TYPE_CHECKING:
    import polars as pl

    from swiftbolt.models.explanations import Explanation
    from swiftbolt.store import ReleaseRow

RELEASE_FIELDS = ("version", "run", "active", "release_digest", "origin", "created")
SYMBOLS_NAMED = 20  # of a long list, in a message


def releases(as_json: AsJson = False) -> None:
    """List the releases; the active one is served."""
    with open_store() as store:
        rows = [fields_of(release, RELEASE_FIELDS) for release in store.releases()]
    if not as_json:  # a person compares the first digits, and reads minutes
        for row in rows:
            row["release_digest"] = row["release_digest"][:12]
            row["created"] = f"{row['created']:%Y-%m-%d %H:%M}"
    show_rows(rows, as_json, f"no release yet; make one with: {HOW_TO_RETRAIN}")


def promote(
    version: Annotated[int | None, typer.Argument(help="The version to serve; without it the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Serve a release from now on. It is one atomic step."""
    with open_store() as store:
        _show_active(store.promote(version), as_json)


def rollback(as_json: AsJson = False) -> None:
    """Serve the release again that was active before."""
    with open_store() as store:
        _show_active(store.rollback(), as_json)


def forecast(
    symbol: Annotated[str, typer.Argument(help="Ticker symbol.")],
    horizon: Annotated[int | None, typer.Option(help="Sessions ahead; without it those that were fitted.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the active release forecasts for a symbol, the ensemble first, then each model, and why."""
    symbol = symbol.upper()
    with open_store() as store:
        release = store.active_release()
        if release is None:
            raise NoRelease("nothing is promoted yet; do it with: swiftbolt promote")
        known = store.forecasts(release.version, symbol)
        if known.is_empty():
            held = store.forecasts(release.version)["symbol"].unique().sort().head(SYMBOLS_NAMED)
            raise NoForecast(f"release {release.version} holds no forecast of {symbol}; it holds {', '.join(held)}")
        origin = known["origin"][0]
        bars = store.bars(symbols=[symbol], end=origin)
        if not len(bars):
            raise NotFound(f"the store holds no bars of {symbol} up to {origin}; bring them with: swiftbolt ingest")
        close = bars.frame["close"][-1]
    rows = forecast_rows(known, close, horizon)
    why = why_rows(_explanations(release, symbol), horizon)
    if as_json:
        head = {"symbol": symbol, "release": release.version, "origin": origin, "current_price": close}
        print_json({**head, "forecasts": rows, "why": why})
        return
    print_table([_readable(row) for row in rows], f"{symbol}, {close:,.2f} on {origin} (release {release.version})")
    if why:
        print_table([_readable_reason(row) for row in why], "Why: what moves a model's median most")


def forecast_rows(known: pl.DataFrame, close: float, horizon: int | None) -> list[dict[str, Any]]:
    """Stored forecasts of one symbol and origin in dollars: one row per model and horizon, the ensemble first.

    Args:
        known: frame as ``Forecasts.to_frame``, of any number of models.
        close: last raw close; targets are what a holder has who reinvests dividends.
        horizon: sessions ahead, interpolated where it was not fitted; None takes those that were.

    Raises:
        ConfigError: the horizon is below 1 or beyond the longest that was fitted.
    """
    from swiftbolt.forecast import LEVELS, Forecasts

    low, middle, high = (LEVELS.index(level) for level in (0.025, 0.5, 0.975))
    rows = []
    for model in sorted(known["model"].unique(), key=lambda name: (name != "ensemble", name)):
        one = next(iter(Forecasts.from_frame(known.filter(model=model))))
        if horizon is not None:
            if not 1 <= horizon <= one.horizons[-1]:
                raise ConfigError("swiftbolt forecast", "--horizon", f"must lie between 1 and {one.horizons[-1]}")
            one = one.at_horizons([horizon])
        for h, sessions in enumerate(one.horizons):
            quantiles, p_up = one.quantiles_HQ[h].tolist(), float(one.p_up_H[h])
            rows.append(
                {
                    "model": model,
                    "horizon": sessions,
                    "price_target": close * math.exp(quantiles[middle]),
                    "lower_ci": close * math.exp(quantiles[low]),
                    "upper_ci": close * math.exp(quantiles[high]),
                    "direction": "up" if p_up >= 0.5 else "down",
                    "confidence": max(p_up, 1 - p_up),
                    "mean": float(one.mean_H[h]),
                    "sd": float(one.sd_H[h]),
                    "p_up": p_up,
                }
            )
    return rows


def why_rows(explanations: Mapping[str, Iterable[Explanation]], horizon: int | None) -> list[dict[str, Any]]:
    """The largest contributions to the medians of one symbol's forecasts, one row each.

    Args:
        explanations: of that symbol, by model.
        horizon: sessions ahead; where it was not fitted the shortest fitted one that covers it. None takes those
            that were.
    """
    from swiftbolt.features.engine import WITH_VIX
    from swiftbolt.models.explanations import covering

    formulas = {feature.name: feature.formula for feature in WITH_VIX}
    rows = []
    for model, told in explanations.items():
        covered = told if horizon is None else filter(None, [covering(told, horizon)])
        rows += [
            {
                "model": model,
                "horizon": one.horizon,
                "feature": part.feature,
                "value": part.value,
                "contribution": part.log_return,
                "description": formulas.get(part.feature),
            }
            for one in covered
            for part in one.largest
        ]
    return rows


def _explanations(release: ReleaseRow, symbol: str) -> dict[str, list[Explanation]]:
    """Why, by model, from the release's directory; nothing but a note where it lies elsewhere or is damaged."""
    from swiftbolt.release import read_explanations, verify_release
    from swiftbolt.settings import Settings

    directory = Settings().artifacts / release.run
    try:
        if verify_release(directory).release_digest != release.release_digest:
            raise ArtifactMismatch(f"{directory}: is not release {release.version}")
    except ArtifactMismatch as exc:
        note(f"no reasons can be given: {exc}")
        return {}
    by_model = read_explanations(directory)
    return {model: [one for one in told if one.symbol == symbol] for model, told in by_model.items()}


def _readable_reason(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": row["model"],
        "sessions ahead": row["horizon"],
        "feature": row["feature"],
        "value": row["value"],
        "adds": f"{row['contribution']:+.3%}",
    }


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": row["model"],
        "sessions ahead": row["horizon"],
        "target": row["price_target"],
        "95 % interval": f"{row['lower_ci']:,.2f} to {row['upper_ci']:,.2f}",
        "direction": row["direction"],
        "confidence": f"{row['confidence']:.1%}",
    }


def _show_active(release: object, as_json: bool) -> None:
    row = fields_of(release, RELEASE_FIELDS)
    if as_json:
        print_json(row)
    else:
        print_line(f"release {row['version']} is active: run {row['run']}, forecasts from {row['origin']}")
