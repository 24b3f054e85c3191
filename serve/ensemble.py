"""A forecast made on request: bars from the store, members side by side, one answer out of those in time.

Knows no Ray: a member is anything that can be awaited, wherever it runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from serve.member import Answer
from serve.views import ReleaseRef, SymbolForecast
from swiftbolt.ensemble.weights import ENSEMBLE, combine
from swiftbolt.errors import InsufficientHistory, NoMemberAnswered
from swiftbolt.features.engine import DEFAULT_SPEC
from swiftbolt.panel import Panel
from swiftbolt.universe import Cohort

log = logging.getLogger(__name__)

ReadPanel = Callable[[str, Cohort], Panel]
"""The panel of one symbol up to its newest stored bar, its features made across a cohort; blocks.

Raises ``NotFound`` where there is no bar of it.
"""

AskMember = Callable[[str, Panel], Awaitable[Answer]]
"""A member, wherever it runs: what it says of the panel's newest session, by the artifact of a run."""


class Ensemble:
    """Asks members in parallel and combines those that answer within ``deadline_s`` seconds."""

    def __init__(self, members: Mapping[str, AskMember], read_panel: ReadPanel, deadline_s: float) -> None:
        self._members = dict(members)
        self._read_panel = read_panel
        self._deadline_s = deadline_s

    async def prepare(self, symbol: str, release: ReleaseRef) -> None:
        """Have every member forecast ``symbol`` by the artifacts of ``release``, only to load them.

        The first forecast of a process is slow; this one has no deadline.
        """
        panel = await asyncio.to_thread(self._read_panel, symbol, release.cohort)
        calls = {name: ask(release.run, panel) for name, ask in self._members.items()}
        results = await asyncio.gather(*calls.values(), return_exceptions=True)
        for name, result in zip(calls, results, strict=True):
            if isinstance(result, BaseException):
                log.warning("%s cannot serve run %s: %s", name, release.run, result)

    async def forecast(self, symbol: str, release: ReleaseRef, model: str) -> SymbolForecast:
        """A forecast from the newest stored session of ``symbol``.

        Args:
            model: a member, or the ensemble for all of them and their combination.

        Raises:
            NotFound: the store holds no bar of it.
            InsufficientHistory: it has too few bars for any feature.
            NoMemberAnswered: every member asked failed or was late.
        """
        panel = await asyncio.to_thread(self._read_panel, symbol, release.cohort)
        asked = tuple(self._members) if model == ENSEMBLE else (model,)
        answers, reasons = await self._ask(asked, release.run, panel)
        forecasts = {name: answer.forecasts for name, answer in answers.items()}
        if model == ENSEMBLE and len(whole := combine(forecasts, release.state)):
            forecasts[ENSEMBLE] = whole
        if model not in forecasts:
            if len(panel.session_R) <= DEFAULT_SPEC.warmup:
                raise InsufficientHistory(symbol, DEFAULT_SPEC.warmup + 1, len(panel.session_R))
            raise NoMemberAnswered(f"no model could forecast {symbol}: {_listed(reasons)}")
        return SymbolForecast(
            symbol=symbol,
            origin=panel.last_session,
            close=float(panel.close_R[-1]),
            made_at=datetime.now(UTC),
            release=release,
            by_model={name: next(iter(found)) for name, found in forecasts.items()},
            missing=tuple(reasons),
            explanations={name: answer.explanations for name, answer in answers.items() if answer.explanations},
        )

    async def _ask(self, names: tuple[str, ...], run: str, panel: Panel) -> tuple[dict[str, Answer], dict[str, str]]:
        """Answers by member, and why each of the others has none."""
        calls = {name: asyncio.ensure_future(self._members[name](run, panel)) for name in names}
        try:
            await asyncio.wait(calls.values(), timeout=self._deadline_s)
            return self._sorted_out(calls, panel.symbols[0])
        finally:
            for call in calls.values():  # those still under way: they are late, or nobody waits for the answer any more
                call.cancel()

    def _sorted_out(
        self, calls: Mapping[str, asyncio.Future[Answer]], symbol: str
    ) -> tuple[dict[str, Answer], dict[str, str]]:
        answers, reasons = {}, {}
        for name, call in calls.items():
            if not call.done():
                reasons[name] = "late"
                log.warning("%s is late for %s: no answer within %.3g s", name, symbol, self._deadline_s)
            elif (error := call.exception()) is not None:
                # Whatever a member fails with, the others still answer; the reason is for the log.
                reasons[name] = "failed"
                log.warning("%s failed for %s: %s", name, symbol, error)
            else:
                answers[name] = call.result()
        return answers, reasons


def _listed(reasons: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {reason}" for name, reason in reasons.items()) or "those that answered have no weight"
