"""Another future for market data: up to a session nothing changes, after it nothing is the same.

Prices, volumes, actions, factors and the series beside them are noise after the session, faults and all. One symbol
ends with the session, a young one if there is one, one begins after it, and the data end some sessions earlier. A
dividend or split that had been declared by then stays: it was known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import polars as pl

from swiftbolt.actions import ACTION_SCHEMA, CorporateActions, factors_from_adjusted_close
from swiftbolt.bars import BAR_SCHEMA, PRICES, Bars
from swiftbolt.evaluation.backdrop import NO_BACKDROP, Backdrop
from swiftbolt.features.series import DailySeries
from swiftbolt.forecast import Float64
from swiftbolt.sessions import Sessions, session_after, sessions_between

NEWCOMER = "~newcomer"

NIGHT, DAY, WICK = 0.02, 0.03, 0.01  # standard deviations of the noise's log returns
LEVEL = 1.0  # of the jump between the last close and the noise, so that no mean or rank of all time stays what it was
MISSING, REPEATED, WITHOUT_VOLUME, MISTAKEN = 0.03, 0.03, 0.03, 0.02  # shares of its bars
MISTAKE = 1.8  # times the price
FIRST_SPLIT = 4.0
SESSIONS_PER_EVENT = 40
# A future of fewer sessions is not made shorter.
SHORTENED_FROM, SHORTENED_BY = 10, 3
RESCALED = 4.0  # what a vendor multiplies its adjusted closes by when it starts counting from elsewhere


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class History:
    """Bars and what adjusts them: events, and the adjusted closes of symbols whose events are not known.

    Attributes:
        events: splits and dividends.
        adjusted_closes: ``symbol, session, close, adj_close``.
        backdrop: the series that stand beside the bars.
    """

    bars: Bars
    events: CorporateActions
    adjusted_closes: pl.DataFrame
    backdrop: Backdrop = NO_BACKDROP

    @classmethod
    def of(cls, bars: Bars, actions: CorporateActions, backdrop: Backdrop = NO_BACKDROP) -> History:
        """Adjusted closes are made up again from the factors in ``actions``, on a scale of their own."""
        is_factor = pl.col("kind") == "factor"
        factors = actions.select(symbols=bars.symbols).frame.filter(is_factor)
        closes = bars.frame.filter(pl.col("symbol").is_in(factors["symbol"].unique().to_list()))
        levels = factors.select("symbol", session="ex_date", level=pl.col("value").cum_prod().over("symbol"))
        adjusted = closes.select("symbol", "session", "close").join_asof(
            levels.sort("session").group_by("symbol", "session").last().sort("session"),
            on="session",
            by="symbol",
            check_sortedness=False,
        )
        return cls(
            bars=bars,
            events=CorporateActions(frame=actions.frame.filter(~is_factor)),
            adjusted_closes=adjusted.select(
                "symbol", "session", "close", adj_close=pl.col("close") * pl.col("level").fill_null(1.0)
            ),
            backdrop=backdrop,
        )

    @property
    def actions(self) -> CorporateActions:
        """Events, and the factors that follow from the adjusted closes."""
        factors = factors_from_adjusted_close(self.adjusted_closes)
        return CorporateActions.from_frame(pl.concat([self.events.frame, factors.frame]))


def another_future(history: History, last: date, rng: np.random.Generator) -> History:
    """``history`` with noise after ``last``, and its adjusted closes up to ``last`` times ``RESCALED``."""
    bars = history.bars
    known = bars.select(end=last)
    after = _sessions_after(last, bars.last_session)
    ended = _ended(known, bars.select(start=session_after(last, 1)), rng)
    if len(after) >= SHORTENED_FROM:
        after = after[: -int(rng.integers(1, SHORTENED_BY + 1))]
    closes = dict(known.frame.group_by("symbol", maintain_order=True).agg(pl.col("close").last()).iter_rows())
    whole = next(symbol for symbol in known.symbols if symbol != ended)  # it gives all of them the same end
    frames = [known.frame]
    for symbol, close in [*closes.items(), (NEWCOMER, 50.0)]:
        if symbol == ended:
            continue
        sessions = after if symbol == whole else after[rng.random(len(after)) >= MISSING]
        frames.append(_noise_bars(symbol, float(close), sessions, rng))
    noised = Bars(frame=pl.concat(frames).sort("symbol", "session"))
    return History(
        bars=noised,
        events=_other_events(history.events, last, after, closes, rng),
        adjusted_closes=_other_adjusted_closes(history.adjusted_closes, noised, last, rng),
        backdrop=Backdrop(
            market=_other_series(history.backdrop.market, last, after, rng),
            vix=_other_series(history.backdrop.vix, last, after, rng),
        ),
    )


def _ended(known: Bars, later: Bars, rng: np.random.Generator) -> str | None:
    """One of those listed last among the symbols that go on: how long it lasts matters most. None if it is alone."""
    listed = known.frame.group_by("symbol", maintain_order=True).agg(pl.col("session").min())
    going_on = listed.filter(pl.col("symbol").is_in(later.symbols))
    youngest = going_on.filter(pl.col("session") == pl.col("session").max())["symbol"].to_list()
    return str(rng.choice(youngest)) if youngest and len(listed) > 1 else None


def _sessions_after(last: date, end: date) -> Sessions:
    return sessions_between(session_after(last, 1), end)


def _noise_bars(symbol: str, close: float, sessions: Sessions, rng: np.random.Generator) -> pl.DataFrame:
    count = len(sessions)
    night_T, day_T = rng.normal(0, NIGHT, count), rng.normal(0, DAY, count)
    close_T = close * np.exp(rng.normal(0, LEVEL) + np.cumsum(night_T + day_T))
    open_T = close_T * np.exp(-day_T)
    wick_2T = np.abs(rng.normal(0, WICK, (2, count)))
    values: dict[str, Float64] = {
        "open": open_T,
        "high": np.maximum(open_T, close_T) * np.exp(wick_2T[0]),
        "low": np.minimum(open_T, close_T) * np.exp(-wick_2T[1]),
        "close": close_T,
        "volume": np.where(rng.random(count) < WITHOUT_VOLUME, 0.0, np.round(np.exp(rng.normal(14, 1, count)))),
    }
    mistaken_T = np.where(rng.random(count) < MISTAKEN, MISTAKE, 1.0)
    from_T = np.arange(count) - ((rng.random(count) < REPEATED) & (np.arange(count) > 0))
    for name in PRICES:
        values[name] = (values[name] * mistaken_T)[from_T]
    return pl.DataFrame({"symbol": [symbol] * count, "session": pl.Series(sessions, dtype=pl.Date), **values}).select(
        [pl.col(name).cast(dtype) for name, dtype in BAR_SCHEMA.items()]
    )


def _other_events(
    events: CorporateActions, last: date, after: Sessions, closes: dict[str, float], rng: np.random.Generator
) -> CorporateActions:
    """Those known by ``last``, and others: on the next session a split and an undeclared dividend of every symbol."""
    known = events.frame.filter((pl.col("ex_date") <= last) | (pl.col("known_at") <= last))
    rows = [row for symbol, close in closes.items() for row in _noise_events(symbol, close, after, rng)]
    return CorporateActions.from_frame(pl.concat([known, pl.DataFrame(rows, schema=ACTION_SCHEMA, orient="row")]))


def _noise_events(
    symbol: str, close: float, after: Sessions, rng: np.random.Generator
) -> Iterator[tuple[str, date, str, float, date | None]]:
    days: list[date] = after.astype(object).tolist()
    yield symbol, days[0], "split", FIRST_SPLIT, None
    yield symbol, days[0], "dividend", close * float(rng.uniform(0.005, 0.05)), None
    for at in np.sort(rng.integers(0, len(days), len(days) // SESSIONS_PER_EVENT)):
        declared = days[int(rng.integers(0, at + 1))]
        yield symbol, days[at], "dividend", close * float(rng.uniform(0.005, 0.05)), declared


def _other_adjusted_closes(adjusted: pl.DataFrame, noised: Bars, last: date, rng: np.random.Generator) -> pl.DataFrame:
    known = adjusted.filter(pl.col("session") <= last).with_columns(pl.col("adj_close") * RESCALED)
    later = noised.frame.filter(
        (pl.col("session") > last) & pl.col("symbol").is_in(adjusted["symbol"].unique().to_list())
    ).select("symbol", "session", "close")
    steps = np.where(rng.random(len(later)) < 1 / SESSIONS_PER_EVENT, np.exp(rng.normal(0, 0.1, len(later))), 1.0)
    return pl.concat([known, later.with_columns(adj_close=pl.col("close") * np.cumprod(steps))])


def _other_series(
    series: DailySeries | None, last: date, after: Sessions, rng: np.random.Generator
) -> DailySeries | None:
    """``series`` up to ``last``, and from there on another level, some sessions missing."""
    if series is None:
        return None
    known = series.up_to(last)
    session_N = after[rng.random(len(after)) >= MISSING]
    start = rng.choice(series.value_N)
    value_N = start * np.exp(rng.normal(0, LEVEL) + np.cumsum(rng.normal(0, DAY, len(session_N))))
    return replace(
        known,
        session_N=np.concatenate((known.session_N, session_N)),
        value_N=np.concatenate((known.value_N, value_N)),
    )
