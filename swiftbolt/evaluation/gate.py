"""May what was retrained be served? The challenger's forecasts against the champion's, and a leak certificate.

It may where its CRPS is surely no worse than the champion's by more than a little, at every horizon, its intervals hold
about what they promise, and nothing in it knows the future. Anything else is inconclusive, with every reason, and the
champion stays. Whose forecasts these are, and where they were made, is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from swiftbolt.config import Strict
from swiftbolt.errors import DataError
from swiftbolt.evaluation.backdrop import Backdrop
from swiftbolt.evaluation.evaluate import Plan
from swiftbolt.evaluation.leakage import Certificate
from swiftbolt.evaluation.metrics import interval_coverage
from swiftbolt.evaluation.recipe import Recipe
from swiftbolt.evaluation.scores import KEYS, matured
from swiftbolt.evaluation.significance import least_sessions, relative_loss_upper_bound, session_means
from swiftbolt.forecast import HORIZONS, QUANTILE_COLUMNS, Float64
from swiftbolt.providers.base import MarketData
from swiftbolt.universe import Universe, is_file

PromoteMode = Literal["never", "gate", "always"]

Share = tuple[float, float]

# Two configurations differ in what they make of calm and of wild times, and those last for weeks: even of outcomes that
# do not overlap, dependence is followed as far as those over the longest horizon need. tests/properties/
# test_gate_size.py shows what that is for.
LONGEST = max(HORIZONS)
LEAST_SESSIONS = least_sessions(LONGEST)


class GateConfig(Strict):
    """What a release must show to be promoted."""

    min_sessions: int = Field(
        250,
        ge=LEAST_SESSIONS,
        description="Sessions that both have forecast and whose outcome is known, at each horizon.",
    )
    max_relative_loss: float = Field(
        0.005,
        gt=0,
        lt=1,
        description="What the one-sided 95 % bound of its CRPS over the champion's, less one, must stay below.",
    )
    coverage_95: Share = Field((0.90, 0.985), description="Least and most share of outcomes in its 95 % intervals.")
    coverage_50: Share = Field((0.40, 0.60), description="Least and most share of outcomes in its 50 % intervals.")
    certificate_symbols: int = Field(3, ge=1, description="Symbols of its leak certificate, beside the market's own.")
    certificate_folds: int = Field(1, ge=1, description="Newest test folds of its leak certificate.")
    inside_test: int = Field(2, ge=1, description="Cuts of its leak certificate within each of these test ranges.")

    @field_validator("coverage_95", "coverage_50")
    @classmethod
    def _is_a_range(cls, value: Share) -> Share:
        if not 0 <= value[0] < value[1] <= 1:
            raise ValueError("must be two shares, the smaller first")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Challenger against champion at one horizon; None where nothing can be said.

    Attributes:
        sessions: that both have forecast and whose outcome is known.
        loss: the challenger's mean CRPS over the champion's, less one; every session weighs the same.
        bound: what that stays below with 95 % confidence.
        coverage_95, coverage_50: share of outcomes in the challenger's intervals.
    """

    horizon: int
    sessions: int
    loss: float | None
    bound: float | None
    coverage_95: float | None
    coverage_50: float | None

    def __str__(self) -> str:
        return (
            f"horizon {self.horizon:>2}: {self.sessions} sessions, CRPS {_percent(self.loss)}, at the worst"
            f" {_percent(self.bound)}; coverage {_share(self.coverage_95)} and {_share(self.coverage_50)}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the gate says of a challenger.

    Attributes:
        against: the champion, such as ``release 3``, or ``naive``; None where nobody asked the gate.
        reasons: all that speaks against promoting it; nothing does where there is none.
        certified: symbols of the leak certificate.
        certificate: what it says, in a sentence; None where none was made.
    """

    against: str | None
    reasons: tuple[str, ...] = ()
    horizons: tuple[Comparison, ...] = ()
    certified: tuple[str, ...] = ()
    certificate: str | None = None

    @property
    def promotes(self) -> bool:
        """Whether the challenger is to be served."""
        return not self.reasons

    @property
    def outcome(self) -> Literal["promote", "inconclusive"]:
        """In a word."""
        return "promote" if self.promotes else "inconclusive"

    def lines(self) -> list[str]:
        """For people: what was found, then every reason."""
        if self.against is None:
            return ["gate: not asked, to be promoted in any case"]
        certificate = [] if self.certificate is None else [f"{', '.join(self.certified)}: {self.certificate}"]
        return [
            f"gate: {self.outcome}, against {self.against}",
            *(f"  {comparison}" for comparison in self.horizons),
            *(f"  certificate of {line}" for line in certificate),
            *(f"  not promoted: {reason}" for reason in self.reasons),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"outcome": self.outcome, **asdict(self)}


NOT_ASKED = Verdict(against=None)


def judge(
    challenger: pl.DataFrame,
    champion: pl.DataFrame,
    certificate: Certificate | str,
    config: GateConfig,
    *,
    against: str,
    certified: Sequence[str],
) -> Verdict:
    """The gate's verdict.

    Args:
        challenger, champion: forecasts of one model each from the same folds, in the columns of forecasts.parquet.
        certificate: the challenger's; or why there is none, in a sentence.
        against, certified: see ``Verdict``.
    """
    horizons = tuple(compare(challenger, champion, horizon) for horizon in HORIZONS)
    objections = [reason for comparison in horizons for reason in _objections(comparison, config)]
    if isinstance(certificate, str):
        objections.append(certificate)
    elif certificate.first is not None:
        objections.append(f"it knows the future: {certificate.first}")
    elif not certificate.compared["combination"]:
        objections.append("its leak certificate compared no forecast, and so proves nothing")
    return Verdict(
        against=against,
        reasons=tuple(objections),
        horizons=horizons,
        certified=tuple(certified),
        certificate=None if isinstance(certificate, str) else certificate.verdict(),
    )


def compare(challenger: pl.DataFrame, champion: pl.DataFrame, horizon: int) -> Comparison:
    """The losses of two models on the rows that both have forecast, and what the first one's intervals hold."""
    mine, theirs = (matured(frame.filter(pl.col("horizon") == horizon)) for frame in (challenger, champion))
    common = mine.join(theirs.select(*KEYS, reference="crps"), on=KEYS, maintain_order="left")
    session_N = common["origin"].to_numpy()
    sessions_T, loss_T = session_means(session_N, common["crps"].to_numpy())
    _, reference_T = session_means(session_N, common["reference"].to_numpy())
    quantiles_NQ, outcome_N = mine.select(QUANTILE_COLUMNS).to_numpy(), mine["realized"].to_numpy()
    return Comparison(
        horizon=horizon,
        sessions=len(sessions_T),
        loss=float(loss_T.mean() / reference_T.mean() - 1.0) if len(sessions_T) else None,
        bound=_bound(loss_T, reference_T),
        **{
            f"coverage_{percent}": interval_coverage(quantiles_NQ, outcome_N, percent / 100) if len(mine) else None
            for percent in (95, 50)
        },
    )


def _bound(loss_T: Float64, reference_T: Float64) -> float | None:
    if len(loss_T) < LEAST_SESSIONS:
        return None
    if np.array_equal(loss_T, reference_T):
        return 0.0
    try:
        return relative_loss_upper_bound(loss_T, reference_T, LONGEST)
    except ValueError:  # the reference is all but zero, or too uncertain
        return None


def _objections(found: Comparison, config: GateConfig) -> Iterator[str]:
    at = f"horizon {found.horizon}"
    if found.sessions < config.min_sessions:
        yield f"{at}: {found.sessions} sessions that both have forecast have an outcome, needs {config.min_sessions}"
    elif found.bound is None:
        yield f"{at}: the loss to compare with is too uncertain for any bound"
    elif found.bound >= config.max_relative_loss:
        yield (
            f"{at}: its CRPS is {_percent(found.loss)}, at the worst {_percent(found.bound)};"
            f" promoted below {_percent(config.max_relative_loss)}"
        )
    for name, share, (least, most) in (
        ("95 %", found.coverage_95, config.coverage_95),
        ("50 %", found.coverage_50, config.coverage_50),
    ):
        if share is not None and not least <= share <= most:
            yield f"{at}: {_share(share)} of outcomes lie in its {name} intervals, must be {least:.1%} to {most:.1%}"


def sample_to_certify(
    recipe: Recipe, universe: Universe, data: MarketData, backdrop: Backdrop, config: GateConfig, seed: int
) -> tuple[Plan, MarketData]:
    """The evaluation of a few symbols on the newest test folds, for ``certify`` to go through.

    The same recipe, and the same test ranges as those of the whole universe. The market's symbol is always among them.

    Args:
        data: of the whole universe, but for its VIX.
        backdrop: holds that.

    Raises:
        DataError: no symbol reaches from before these folds to the newest session.
    """
    count = min(config.certificate_folds, recipe.folds.count)
    folds = recipe.folds.model_copy(update={"count": count})
    needed = max(folds.needed_sessions + count * folds.test_sessions, recipe.needed_sessions(universe))
    spans = data.bars.frame.group_by("symbol").agg(pl.len(), last=pl.col("session").max())
    whole = spans.filter((pl.col("len") >= needed) & (pl.col("last") == data.bars.last_session))["symbol"].sort()
    market = {universe.market} if universe.market is not None and not is_file(universe.market) else set()
    if not len(whole):
        raise DataError(f"no symbol has the {needed} sessions that a leak certificate of the newest folds needs")
    others = np.array([symbol for symbol in whole if symbol not in market])
    drawn = np.random.default_rng(seed).permutation(others)[: config.certificate_symbols]
    symbols = tuple(sorted({*drawn.tolist(), *market}))
    plan = Plan(
        recipe=Recipe(folds=folds, models=recipe.models, ensemble=recipe.ensemble, seed=recipe.seed),
        universe=universe.model_copy(update={"symbols": symbols, "vix": None}),
        backdrop=backdrop,
    )
    return plan, MarketData(
        bars=data.bars.select(symbols),
        actions=data.actions.select(symbols=symbols),
        quarantine=data.quarantine,
        adjustment=data.adjustment,
    )


def _percent(value: float | None) -> str:
    """A relative loss, in words: better is less."""
    if value is None:
        return "unknown"
    return f"{abs(value):.2%} {'worse' if value > 0 else 'better'}" if value else "equal"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
