"""The neural forecasters' common part: how trained weights become forecasts.

``swiftbolt.models.training`` holds the epoch loop, ``quantile_head`` the distribution, ``trained`` the values that
travel, ``network_trainers`` those who train many networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from swiftbolt.config import Strict
from swiftbolt.errors import ArtifactMismatch, ModelError
from swiftbolt.folds import Fold
from swiftbolt.forecast import HORIZONS, Forecasts
from swiftbolt.models.base import Model, Scope
from swiftbolt.models.quantile_head import quantiles
from swiftbolt.models.trained import Network, NetworkConfig, NetworkName, TrainedNetwork, TrainingJob
from swiftbolt.models.training import FeatureTable, reproducible, train_network
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility
from swiftbolt.sessions import Sessions, all_sessions
from swiftbolt.windows import has_window

# Matrix products round differently for other shapes, other numbers of threads and even other rows of one product.
# What is served alone must be what was released among many, so every batch has the same size, every origin its own
# place in it, and one thread of the CPU computes them all.
FORECAST_BATCH = 16
FORECAST_THREADS = 1
FORECAST_DEVICE = torch.device("cpu")


class NeuralForecaster(Model):
    """A network as a model of the whole universe; subclasses say which."""

    name: ClassVar[NetworkName]
    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self._trained: TrainedNetwork | None = None
        self._network: Network | None = None

    @property
    def scope(self) -> Scope:
        """One network learns from every symbol."""
        return "universe"

    def fit(self, panel: Panel, fold: Fold, *, seed: int) -> None:
        """Train in this process; see ``train_network`` for what is raised."""
        self.adopt(train_network(panel, TrainingJob(name=self.name, config=self.config, fold=fold, seed=seed)))

    def adopt(self, trained: TrainedNetwork) -> None:
        """Forecast with weights that were trained elsewhere.

        Raises:
            ArtifactMismatch: they are of another network than this configuration describes.
        """
        found, wanted = (trained.name, trained.architecture), (self.name, self.config.architecture())
        if found != wanted:
            raise ArtifactMismatch(f"weights are of {found[0]} {found[1]}, need {wanted[0]} {wanted[1]}")
        with torch.random.fork_rng(devices=[]):  # the initial weights are drawn, only to be replaced
            network = self.config.build(len(trained.standardiser.mean_F))
        try:
            network.load_state_dict({name: torch.tensor(array) for name, array in trained.weights.items()})
        except RuntimeError as exc:
            raise ArtifactMismatch(f"weights do not fit {self.name}: {exc}") from exc
        self._trained, self._network = trained, network.eval()
        self.notes = []
        if trained.best_epoch == 0:
            self.notes.append(f"{self.name}: no epoch beat the untrained network, which knows only volatility")

    def forecast(self, panel: Panel, origins: Sessions) -> Forecasts:
        """See ``Model.forecast``. A forecast does not depend, to the bit, on what else is asked for.

        Raises:
            ModelError: the network has not been trained.
            ArtifactMismatch: it was trained on other features than the panel's.
        """
        trained, network = self._ready()
        if panel.spec_hash != trained.spec_hash:
            raise ArtifactMismatch(f"{self.name} learned from features {trained.spec_hash}, not {panel.spec_hash}")
        volatility_R = panel_volatility(panel)
        rows_N = panel.rows_at(origins)
        rows_N = rows_N[(has_window(panel, self.config.look_back) & np.isfinite(volatility_R))[rows_N]]
        if not len(rows_N):
            return Forecasts.empty(self.name)
        table = FeatureTable.of(panel, trained.standardiser, self.config.look_back, FORECAST_DEVICE)
        batch_N, place_N = _places(panel, rows_N)
        standard_NHQ = _standard_quantiles(network, table, rows_N, batch_N, place_N)
        scale_NH = volatility_R[rows_N, None] * np.sqrt(np.array(HORIZONS, dtype=np.float64))
        return Forecasts(
            model=self.name,
            horizons=HORIZONS,
            symbol_N=np.array(panel.symbols)[panel.symbol_R[rows_N]],
            origin_N=panel.date_R[rows_N],
            quantiles_NHQ=scale_NH[..., None] * standard_NHQ,
        )

    def dump(self) -> dict[str, bytes]:
        """Weights as safetensors, all else as JSON."""
        return self._ready()[0].to_files()

    @classmethod
    def restore(cls, config: Strict, files: Mapping[str, bytes]) -> Self:
        """Rebuild what ``dump`` wrote.

        Raises:
            ArtifactMismatch: a file is missing or damaged, or ``config`` describes another network.
        """
        if not isinstance(config, NetworkConfig):
            raise TypeError(f"{cls.name} needs a NetworkConfig, got {type(config).__name__}")
        model = cls(config)
        model.adopt(TrainedNetwork.from_files(files))
        return model

    def _ready(self) -> tuple[TrainedNetwork, Network]:
        if self._trained is None or self._network is None:
            raise ModelError(f"{self.name} has not been trained")
        return self._trained, self._network


def _places(panel: Panel, rows_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which batch each row belongs to and its place there: the latter a function of its session alone.

    A batch holds consecutive sessions of one symbol, so that asking for a range of origins fills it.
    """
    ordinal_N = np.searchsorted(all_sessions(), panel.date_R[rows_N])
    spans = len(all_sessions()) // FORECAST_BATCH + 1
    _, batch_N = np.unique(panel.symbol_R[rows_N] * spans + ordinal_N // FORECAST_BATCH, return_inverse=True)
    return batch_N, ordinal_N % FORECAST_BATCH


def _standard_quantiles(
    network: Network,
    table: FeatureTable,
    rows_N: NDArray[np.int64],
    batch_N: NDArray[np.int64],
    place_N: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Quantiles in standardised units, (N, H, Q)."""
    rows_GB = np.full((batch_N.max() + 1, FORECAST_BATCH), rows_N[0])  # empty places repeat any usable row
    rows_GB[batch_N, place_N] = rows_N
    with reproducible(FORECAST_THREADS, FORECAST_DEVICE), torch.inference_mode():
        answers = [network(table.windows(rows_B)) for rows_B in torch.from_numpy(rows_GB)]
        loc_GBH = torch.stack([answer.loc_BH for answer in answers]).double().numpy()
        log_scale_GBH = torch.stack([answer.log_scale_BH for answer in answers]).double().numpy()
        shape_HQ = network.head.shape_HQ.double().numpy()
    return quantiles(loc_GBH[batch_N, place_N], log_scale_GBH[batch_N, place_N], shape_HQ)
