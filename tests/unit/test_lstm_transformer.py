"""The LSTM and the Transformer, each for itself: what it can learn, how it is built, how it is configured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support.planted import planted_fold, planted_panel

from swiftbolt.config import load_config
from swiftbolt.errors import ConfigError
from swiftbolt.forecast import HORIZONS, LEVELS, normal_quantiles
from swiftbolt.models.lstm import LSTM, LSTMConfig, LSTMEncoder
from swiftbolt.models.networks import NeuralForecaster
from swiftbolt.models.transformer import PatchEncoder, Transformer, TransformerConfig, sinusoidal_positions
from swiftbolt.panel import Panel
from swiftbolt.scaling import panel_volatility
from swiftbolt.windows import outcomes

CONFIGS = Path(__file__).parents[2] / "configs" / "models"
SMALL = {"look_back": 8, "head_units": 8, "epochs": 12, "batch_size": 32, "stride": 1, "dropout": 0.0}
MODELS = [
    LSTM(LSTMConfig(units=(8, 8), learning_rate=0.01, **SMALL)),
    Transformer(TransformerConfig(width=16, blocks=1, patch=2, learning_rate=0.005, **SMALL)),
]


def crps(quantiles_NQ: NDArray[np.float64], y_N: NDArray[np.float64]) -> float:
    """Twice the mean pinball loss over the published levels."""
    miss_NQ = y_N[:, None] - quantiles_NQ
    return float(2 * np.maximum(np.array(LEVELS) * miss_NQ, (np.array(LEVELS) - 1) * miss_NQ).mean())


def skill(model: NeuralForecaster, panel: Panel, horizon: int) -> float:
    """1 - CRPS / CRPS of naive over the matured test origins."""
    h = HORIZONS.index(horizon)
    origins = panel.sessions[-60 - 1 : -horizon]
    rows = panel.rows_at(origins)
    y_N = outcomes(panel)[rows, h]
    naive = normal_quantiles(np.zeros(len(rows)), panel_volatility(panel)[rows] * np.sqrt(horizon))
    return 1 - crps(model.forecast(panel, origins).quantiles_NHQ[:, h], y_N) / crps(naive, y_N)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_network_beats_naive_where_a_feature_foretells_the_return(model: NeuralForecaster) -> None:
    panel = planted_panel(seed=3, sessions=500)
    model.fit(panel, planted_fold(panel), seed=0)
    # Whoever knew that the return is 0.8 x feature + 0.6 x noise per cent would have a skill of 0.30 on these sessions.
    assert skill(model, panel, 1) > 0.18
    assert skill(model, panel, 5) > 0.2
    assert model.notes == []


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_network_is_no_worse_than_naive_by_more_than_noise_where_nothing_foretells_the_return(
    model: NeuralForecaster,
) -> None:
    panel = planted_panel(seed=4, sessions=500, strength=0.0)
    model.fit(panel, planted_fold(panel), seed=0)
    assert -0.05 < skill(model, panel, 1) < 0.05


def test_lstm_reads_the_newest_session_and_starts_with_open_forget_gates() -> None:
    encoder = LSTMEncoder(3, (5, 4), dropout=0.0)
    x_BLF = torch.zeros(1, 6, 3)
    newest = x_BLF.clone()
    newest[0, -1] = 1.0
    assert encoder(x_BLF).shape == (1, 4)
    assert not torch.equal(encoder(x_BLF), encoder(newest))
    assert (encoder.layers[0].get_parameter("bias_ih_l0")[5:10] == 1).all()


def test_transformer_attends_to_patches_so_that_tokens_are_look_back_over_patch() -> None:
    encoder = PatchEncoder(TransformerConfig(look_back=64, patch=4, width=16), features=3)
    seen: list[torch.Size] = []
    encoder.blocks[0].register_forward_hook(lambda block, inputs, output: seen.append(inputs[0].shape))
    assert encoder(torch.zeros(2, 64, 3)).shape == (2, 16)
    assert seen == [(2, 16, 16)]


def test_transformer_knows_the_order_of_its_patches() -> None:
    encoder = PatchEncoder(TransformerConfig(look_back=6, patch=2, width=16, blocks=1), features=1).eval()
    x_BLF = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape(1, 6, 1)
    swapped = x_BLF[:, [2, 3, 0, 1, 4, 5]]  # the newest patch stays
    assert not torch.allclose(encoder(x_BLF), encoder(swapped), atol=1e-4)


def test_transformer_heads_share_the_width_between_them() -> None:
    block = PatchEncoder(TransformerConfig(width=64), features=3).blocks[0]
    assert block.get_parameter("query_key_value.weight").shape == (3 * 64, 64)


def test_first_position_is_sines_of_zero_and_cosines_of_zero() -> None:
    positions = sinusoidal_positions(2, 4)
    assert positions[0].tolist() == [0.0, 1.0, 0.0, 1.0]
    assert positions[1].tolist() == pytest.approx([np.sin(1), np.cos(1), np.sin(0.01), np.cos(0.01)], rel=1e-5)


def test_shipped_configurations_are_the_defaults() -> None:
    assert load_config(CONFIGS / "lstm.yaml", LSTMConfig) == LSTMConfig()
    assert load_config(CONFIGS / "lstm_252.yaml", LSTMConfig) == LSTMConfig(look_back=252)
    assert load_config(CONFIGS / "transformer.yaml", TransformerConfig) == TransformerConfig()


def test_a_typing_error_in_a_configuration_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lstm.yaml"
    path.write_text("unit: [64]\n")
    with pytest.raises(ConfigError, match=r"lstm.yaml: unit: unknown key \(did you mean 'units'\?\)"):
        load_config(path, LSTMConfig)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("patch: 5", "look_back 32 is not a multiple of patch 5"),
        ("width: 20", "multiple of 8"),
    ],
)
def test_a_transformer_that_cannot_be_built_is_refused_when_it_is_read(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "transformer.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_config(path, TransformerConfig)
