"""A member of the ensemble: one model, loaded from the artifact of the release it is asked for.

Needs the artifacts and nothing else; never the database.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from swiftbolt.errors import ModelError
from swiftbolt.forecast import Forecasts
from swiftbolt.models.base import Model
from swiftbolt.models.explanations import Explanation, explain_newest
from swiftbolt.models.registry import model_class
from swiftbolt.panel import Panel
from swiftbolt.release import read_member

KEPT_RUNS = 2  # the promoted release and the one before it, so that a rollback loads nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a member says of the newest session of a panel.

    Attributes:
        forecasts: one row per symbol the model can forecast.
        explanations: why, by symbol and horizon; empty where the model cannot say.
    """

    forecasts: Forecasts
    explanations: tuple[Explanation, ...] = ()


class Member:
    """Forecasts with the model ``name`` of any release under ``artifacts``.

    An artifact is loaded on first use and kept. One that is refused leaves those already loaded in place.
    """

    def __init__(self, name: str, artifacts: Path) -> None:
        model_class(name)  # imports its library now, not within the first request
        self._name = name
        self._artifacts = artifacts
        self._models: OrderedDict[tuple[str, str], Model] = OrderedDict()
        # One thread at a time: the replica has one core's share, and libraries keep settings per process.
        self._lock = threading.Lock()

    def forecast(self, run: str, panel: Panel) -> Answer:
        """Forecasts from the newest session of ``panel``, and why.

        Raises:
            ArtifactMismatch: the artifact of ``run`` is refused.
            ModelError: the model forecasts none of the panel's symbols.
        """
        with self._lock:
            model = self._loaded(run, panel.spec_hash)
            forecasts = model.forecast(panel, panel.sessions[-1:])
            explanations = explain_newest(model, panel)
        if not len(forecasts):
            raise ModelError(f"{self._name} cannot forecast {', '.join(panel.symbols)} from {panel.last_session}")
        return Answer(forecasts=forecasts, explanations=tuple(explanations))

    def _loaded(self, run: str, spec_hash: str) -> Model:
        key = (run, spec_hash)
        model = self._models.get(key)
        if model is None:
            model = read_member(self._artifacts / run, self._name, spec_hash=spec_hash)
            self._models[key] = model
        self._models.move_to_end(key)
        while len(self._models) > KEPT_RUNS:
            self._models.popitem(last=False)
        return model
