"""What every forecaster promises, and how one is saved.

A model is fitted on a fold of a panel and then forecasts from any origins of any later panel. It is
saved as a few named byte strings (UBJ, safetensors, JSON, never pickle); a loaded model forecasts
bit for bit what the saved one did.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from swiftbolt.config import Strict
from swiftbolt.errors import ArtifactMismatch
from swiftbolt.folds import Fold
from swiftbolt.forecast import Forecasts
from swiftbolt.panel import Panel
from swiftbolt.sessions import Sessions

Scope = Literal["symbol", "universe"]


class Model(ABC):
    """A forecaster of the distribution of cumulative log returns.

    Attributes:
        name: key of the model in configs, tables and routes.
        config: what it was made from.
        notes: named fallbacks taken while fitting, one sentence each, for people.
    """

    name: ClassVar[str]

    def __init__(self, config: Strict) -> None:
        self.config = config
        self.notes: list[str] = []

    @property
    @abstractmethod
    def scope(self) -> Scope:
        """``symbol``: symbols are fitted apart and may be spread over workers; ``universe``: fitted together."""

    @abstractmethod
    def fit(self, panel: Panel, fold: Fold, *, seed: int) -> None:
        """Fit on ``fold.train``, stop early on ``fold.validation``; nothing after ``fold.known_through`` is used
        for anything that claims to precede it.

        Raises:
            InsufficientHistory: too few usable rows.
            ModelError: the fit failed and no fallback applies.
        """

    @abstractmethod
    def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
        """Distributions from every origin at which a symbol of ``panel`` has what the model needs.

        Origins a symbol has no bar for, or not enough history before, are left out: never a NaN.
        Rows come sorted by symbol, then origin.
        """

    @abstractmethod
    def dump(self) -> dict[str, bytes]:
        """The fitted state as named byte strings. Symbol-scoped models use one name per symbol, so that
        the union of two dumps is a dump of both."""

    @classmethod
    @abstractmethod
    def restore(cls, config: Strict, files: Mapping[str, bytes]) -> Self:
        """Rebuild what ``dump`` wrote."""

    def save(self, directory: Path) -> None:
        """Write ``dump`` into ``directory`` (without a manifest; ``swiftbolt.artifact`` adds that)."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.dump().items():
            (directory / name).write_bytes(content)

    @classmethod
    def load(cls, directory: Path, config: Strict) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtifactMismatch: the directory is missing or empty.
        """
        if not directory.is_dir():
            raise ArtifactMismatch(f"{directory}: no such artifact")
        files = {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.name != "manifest.json"}
        if not files:
            raise ArtifactMismatch(f"{directory}: holds no model")
        return cls.restore(config, files)


def forecast_as_known(model: Model, panel: Panel, origins: Sessions) -> Forecasts:
    """``model.forecast``, and from every doubted bar at one of ``origins`` what it says of the panel as it was then.

    Rows come sorted by symbol, then origin.
    """
    parts = [model.forecast(panel, origins)]
    wanted = {bar.session for bar in panel.doubted if panel.sessions[bar.session] in origins}
    for session in sorted(wanted):
        parts.append(model.forecast(panel.as_known_at(session), panel.sessions[session : session + 1]))
    return Forecasts.concatenate(parts)
