"""Polygon's rows as our nouns: corporate actions, quotes, trades and options. Knows nothing of how they are asked for.

- A split turns ``split_from`` shares into ``split_to``; stock dividends come in the same form.
- ``cash_amount`` of a dividend is as declared. With a split of the same ex-date it counts for a share after the split:
  who is on record on or after that day holds split shares. Where ``split_adjusted_cash_amount`` shows that the vendor
  took the split for a later one, the amount is one before the split and is converted. Where it shows neither, the
  amount is taken as it stands and told of in ``MarketData.findings``.
- The vendor lists some events twice under two ids: equal ones count once. Dividends of one ex-date are added up.

``known_at`` is the day a dividend was declared; of splits the vendor does not say. Dividends are in dollars: one in
another currency is left out and told of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.errors import SchemaError
from swiftbolt.providers.json_values import number_of, positive_of
from swiftbolt.providers.patience import Json
from swiftbolt.providers.stream import EPOCH
from swiftbolt.quotes import OptionSnapshot, Quote, Right, Snapshot, Trade

RIGHTS: dict[str, Right] = {"call": "call", "put": "put"}
AMOUNT_TOLERANCE = 0.01  # relative: the vendor rounds split-adjusted amounts
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dividend:
    """A cash dividend as the vendor lists it; equal ones are one."""

    day: date
    kind: str | None
    cash: float
    adjusted: float | None
    declared: date | None

    def after_split(self, splits: dict[date, float]) -> float | None:
        """Dollars for a share held after the splits of its day; None where the vendor's amounts do not tell."""
        split = splits.get(self.day, 1.0)
        if split == 1.0:
            return self.cash
        later = math.prod(ratio for day, ratio in splits.items() if day > self.day)
        taken_for_later = None if self.adjusted is None else self.cash / self.adjusted / later
        if taken_for_later is not None and math.isclose(taken_for_later, split, rel_tol=AMOUNT_TOLERANCE):
            return self.cash / split
        if taken_for_later is not None and math.isclose(taken_for_later, 1.0, rel_tol=AMOUNT_TOLERANCE):
            return self.cash
        return None


def actions_of(
    symbol: str, split_rows: Iterable[Json], dividend_rows: Iterable[Json]
) -> tuple[CorporateActions, tuple[str, ...]]:
    """The vendor's rows as actions, one for each ex-date and kind, and a sentence on what is left out or in doubt."""
    sentences: list[str] = []
    splits = _splits(symbol, split_rows, sentences)
    dividends: dict[date, list[_Dividend]] = {}
    for dividend in _dividends(symbol, dividend_rows, sentences):
        dividends.setdefault(dividend.day, []).append(dividend)
    actions = [CorporateAction(symbol=symbol, ex_date=day, kind="split", value=ratio) for day, ratio in splits.items()]
    for day, paid in dividends.items():
        amounts = []
        for dividend in paid:
            amount = dividend.after_split(splits)
            if amount is None:
                amount = dividend.cash
                sentences.append(
                    f"{symbol} {day}: the dividend of {amount:g} counts for a share after that day's split"
                )
            amounts.append(amount)
        declared = [dividend.declared for dividend in paid if dividend.declared is not None]
        known_at = max(declared) if len(declared) == len(paid) else None
        total = math.fsum(amounts)
        actions.append(CorporateAction(symbol=symbol, ex_date=day, kind="dividend", value=total, known_at=known_at))
    return CorporateActions.of(actions), tuple(sentences)


def _splits(symbol: str, rows: Iterable[Json], sentences: list[str]) -> dict[date, float]:
    """New shares for each old one by ex-date."""
    ratios: dict[date, set[float]] = {}
    for row in rows:
        day = day_of(row, "execution_date")
        old, new = positive_of(row.get("split_from")), positive_of(row.get("split_to"))
        if day is None or old is None or new is None:
            sentences.append(
                f"{symbol}: a split that cannot be read is left out ({_told(row, 'split_from', 'split_to')})"
            )
        elif old != new:
            ratios.setdefault(day, set()).add(new / old)
    return {day: math.prod(sorted(found)) for day, found in ratios.items()}


def _dividends(symbol: str, rows: Iterable[Json], sentences: list[str]) -> list[_Dividend]:
    """Dividends in dollars, each once."""
    found: dict[tuple[date, str | None, float], _Dividend] = {}
    for row in rows:
        day, cash = day_of(row, "ex_dividend_date"), positive_of(row.get("cash_amount"))
        currency = (text_of(row, "currency") or "USD").upper()
        if day is None or cash is None:
            sentences.append(f"{symbol}: a dividend that cannot be read is left out ({_told(row, 'cash_amount')})")
        elif currency != "USD":
            sentences.append(f"{symbol} {day}: a dividend of {cash:g} {currency} is left out, for prices are in USD")
        else:
            dividend = _Dividend(
                day=day,
                kind=text_of(row, "distribution_type") or text_of(row, "dividend_type"),
                cash=cash,
                adjusted=positive_of(row.get("split_adjusted_cash_amount")),
                declared=day_of(row, "declaration_date"),
            )
            found.setdefault((day, dividend.kind, cash), dividend)
    return list(found.values())


def _told(row: Json, *names: str) -> str:
    return ", ".join(
        f"{name} {row.get(name)}" for name in ("execution_date", "ex_dividend_date", *names) if name in row
    )


def snapshot_of(symbol: str, row: Json) -> Snapshot:
    asked, traded = mapping_of(row.get("lastQuote"), symbol), mapping_of(row.get("lastTrade"), symbol)
    bid, ask, price = positive_of(asked.get("p")), positive_of(asked.get("P")), positive_of(traded.get("p"))
    newest_quote = newest_trade = None
    if bid is not None and ask is not None:
        bid_size, ask_size = number_of(asked.get("s")) or 0.0, number_of(asked.get("S")) or 0.0
        at = moment_of_tick(asked.get("t"), symbol)
        newest_quote = Quote(symbol=symbol, at=at, bid=bid, ask=ask, bid_size=bid_size, ask_size=ask_size)
    if price is not None:
        at, size = moment_of_tick(traded.get("t"), symbol), number_of(traded.get("s")) or 0.0
        newest_trade = Trade(symbol=symbol, at=at, price=price, size=size)
    return Snapshot(symbol=symbol, quote=newest_quote, trade=newest_trade)


def option_of(underlying: str, row: Json) -> OptionSnapshot:
    details, asked, traded, day, greeks = (
        mapping_of(row.get(name), f"the options of {underlying}")
        for name in ("details", "last_quote", "last_trade", "day", "greeks")
    )
    contract, right, expiry = (
        text_of(details, "ticker"),
        text_of(details, "contract_type"),
        day_of(details, "expiration_date"),
    )
    strike = positive_of(details.get("strike_price"))
    if contract is None or right not in RIGHTS or expiry is None or strike is None:
        raise SchemaError(f"polygon: {contract or 'a contract'} of {underlying} is no option: {details}")
    return OptionSnapshot(
        contract=contract,
        underlying=underlying,
        right=RIGHTS[right],
        strike=strike,
        expiry=expiry,
        bid=number_of(asked.get("bid")),
        ask=positive_of(asked.get("ask")),  # nobody gives one away: 0 is no offer
        last=number_of(traded.get("price")),
        volume=number_of(day.get("volume")),
        open_interest=number_of(row.get("open_interest")),
        implied_volatility=number_of(row.get("implied_volatility")),
        delta=number_of(greeks.get("delta")),
        gamma=number_of(greeks.get("gamma")),
        theta=number_of(greeks.get("theta")),
        vega=number_of(greeks.get("vega")),
    )


def rows_of(content: Json, key: str, where: str) -> list[Json]:
    """The list of objects under ``key``; where it is absent or null there are none."""
    value = content.get(key) or []
    if not (isinstance(value, list) and all(isinstance(row, dict) for row in value)):
        raise SchemaError(f"polygon: {where} hold no list of objects where one must be; check --base-url")
    return value


def mapping_of(value: object, where: str) -> Json:
    """``value`` if it is an object; null is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SchemaError(f"polygon: {where} holds {type(value).__name__} where an object must be; check --base-url")
    return value


def text_of(row: Json, name: str) -> str | None:
    value = row.get(name)
    return value if isinstance(value, str) and value else None


def day_of(row: Json, name: str) -> date | None:
    try:
        return date.fromisoformat(text_of(row, name) or "")
    except ValueError:
        return None


def session_of(row: Json) -> date | None:
    """The session of a daily bar: the UTC date of its window's start."""
    at = moment_of(row.get("t"))
    return None if at is None else at.date()


def moment_of(value: object) -> datetime | None:
    """Milliseconds since 1970 as a time."""
    number = number_of(value)
    try:
        return None if number is None else EPOCH + number * MILLISECOND
    except OverflowError:
        return None


def moment_of_tick(value: object, symbol: str) -> datetime:
    """Nanoseconds since 1970 as a time, cut to the microsecond."""
    if not isinstance(value, int):
        raise SchemaError(f"polygon: {value!r} is not the time of a quote or trade of {symbol}")
    return EPOCH + timedelta(microseconds=value // 1000)
