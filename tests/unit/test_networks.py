"""What the two networks share: distribution, windows, training, and how weights become forecasts."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from support.planted import planted_fold, planted_panel

from swiftbolt.errors import ArtifactMismatch, DidNotConverge, InsufficientHistory, ModelError
from swiftbolt.forecast import HORIZONS, LEVELS, crps_from_quantiles
from swiftbolt.models.lstm import LSTM, LSTMConfig
from swiftbolt.models.network_trainers import InProcessTrainer, NetworkTrainer, ProcessTrainer, Trained
from swiftbolt.models.quantile_head import QuantileHead, Standard, crps, quantiles, student_t_shape, summed_loss
from swiftbolt.models.trained import TrainedNetwork, TrainingJob
from swiftbolt.models.training import EpochLoop, FeatureTable, Samples, prepare, standardised_returns, train_network
from swiftbolt.models.training_state import TrainingState
from swiftbolt.panel import Panel
from swiftbolt.scaling import Standardiser, panel_volatility

PANEL = planted_panel(seed=1)
FOLD = planted_fold(PANEL)
CONFIG = LSTMConfig(look_back=6, units=(6,), head_units=4, epochs=2, batch_size=64, stride=3, dropout=0.1)


def job(**changes: object) -> TrainingJob:
    return TrainingJob(name="lstm", config=CONFIG.model_copy(update=changes), fold=FOLD, seed=7)


@pytest.fixture(scope="module")
def trained() -> TrainedNetwork:
    return train_network(PANEL, job())


@pytest.fixture(scope="module")
def model(trained: TrainedNetwork) -> LSTM:
    fitted = LSTM(CONFIG)
    fitted.adopt(trained)
    return fitted


def files_of(network: Trained) -> dict[str, bytes]:
    assert isinstance(network, TrainedNetwork), network
    return network.to_files()


def standard(loc: list[float], scale: list[float], df: list[float]) -> Standard:
    shape_HQ = torch.tensor(np.array([student_t_shape(each) for each in df]), dtype=torch.float32)
    return Standard(torch.tensor([loc]), torch.tensor([scale]).log(), shape_HQ)


def test_the_loss_is_the_crps_that_forecasts_are_judged_by() -> None:
    forecast = standard([0.3, -1.0], [0.5, 2.0], [3.0, 9.0])
    z_BH = torch.tensor([[1.1, -4.0]])
    quantiles_HQ = quantiles(*(part.double().numpy() for part in forecast))[0]
    expected = crps_from_quantiles(quantiles_HQ, z_BH[0].double().numpy())
    assert crps(forecast, z_BH)[0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_a_shape_starts_as_scipys_student_t_of_standard_deviation_one() -> None:
    assert student_t_shape(4.0) == pytest.approx(stats.t.ppf(LEVELS, 4.0, 0.0, np.sqrt(0.5)))


def test_quantiles_are_the_shape_moved_and_scaled_and_the_median_is_the_location() -> None:
    q_Q = quantiles(np.array([[0.5]]), np.log(np.array([[2.0]])), student_t_shape(4.0)[None])[0, 0]
    assert q_Q == pytest.approx(0.5 + 2.0 * student_t_shape(4.0))
    assert q_Q[3] == pytest.approx(0.5)


def test_a_missing_label_adds_nothing_to_the_loss_its_count_or_the_gradient() -> None:
    forecast = standard([0.0, 0.0], [1.0, 1.0], [5.0, 5.0])
    forecast.loc_BH.requires_grad_()
    total, count = summed_loss(forecast, torch.tensor([[0.7, float("nan")]]))
    total.backward()
    assert count == 1
    assert float(total.detach()) == pytest.approx(
        float(crps_from_quantiles(student_t_shape(5.0)[None], np.array([0.7]))[0]), rel=1e-5
    )
    assert forecast.loc_BH.grad is not None
    assert forecast.loc_BH.grad[0, 1] == 0
    assert forecast.loc_BH.grad[0, 0] != 0


def test_an_untrained_head_says_location_zero_and_standard_deviation_one_whatever_it_sees() -> None:
    head = QuantileHead(width=4, units=3, horizons=3, df=5.0, dropout=0.0)
    loc_BH, log_scale_BH, shape_HQ = head(torch.randn(10, 4, generator=torch.Generator().manual_seed(0)))
    assert (loc_BH == 0).all()
    assert (log_scale_BH == 0).all()
    assert shape_HQ.detach().numpy() == pytest.approx(np.tile(student_t_shape(5.0), (3, 1)), abs=1e-5)


def test_a_shape_increases_whatever_has_been_learnt_and_is_zero_at_the_median() -> None:
    head = QuantileHead(width=4, units=3, horizons=3, df=5.0, dropout=0.0)
    with torch.no_grad():
        head.raw_step_HK.copy_(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)) * 3)
    shape_HQ = head.shape_HQ.detach()
    assert (shape_HQ.diff(dim=1) > 0).all()
    assert (shape_HQ[:, 3] == 0).all()


def test_what_is_kept_is_the_running_mean_of_the_weights_and_forecasts_by_it() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        averaging = 0.5
        config = CONFIG.model_copy(update={"averaging": averaging})
        loop = EpochLoop(
            config.build(3), replace(job(), config=config), FeatureTable(torch.randn(60, 3), look_back=6), 0, 1, None
        )
        samples = Samples(torch.arange(10, 50), torch.randn(40, 3))
        expected = [parameter.detach().clone() for parameter in loop.network.parameters()]
        for step in range(1, 31):
            loop.step(samples, torch.arange(40))
            decay = min(averaging, step / (step + 9.0))
            for mean, latest in zip(expected, loop.network.parameters(), strict=True):
                mean.mul_(decay).add_(latest.detach(), alpha=1.0 - decay)
        assert all(
            torch.allclose(mean, kept, atol=1e-6)
            for mean, kept in zip(expected, loop.averaged.parameters(), strict=True)
        )
        total, count = summed_loss(loop.averaged.eval()(loop.table.windows(samples.rows_N)), samples.z_NH)
        assert loop.evaluate(samples) == pytest.approx(float(total.detach() / count), rel=1e-5)


def test_validation_is_of_every_kth_of_its_rows() -> None:
    _, train, all_held = prepare(PANEL, job(validation_stride=1), torch.device("cpu"))
    _, same_train, held = prepare(PANEL, job(validation_stride=4), torch.device("cpu"))
    assert len(same_train) == len(train)
    assert 0.2 < len(held) / len(all_held) < 0.3
    assert set(held.rows_N.tolist()) <= set(all_held.rows_N.tolist())


def test_labels_are_returns_over_volatility_and_the_root_of_the_horizon() -> None:
    z_NH = standardised_returns(np.array([[0.02, 0.03, np.nan]]), np.array([0.01]), (1, 9, 20))
    assert z_NH[0, :2] == pytest.approx([2.0, 1.0])
    assert np.isnan(z_NH[0, 2])


def test_gathered_windows_are_the_slices_that_end_at_each_row_and_the_table_holds_each_row_once() -> None:
    x_RF = np.arange(20, dtype=np.float32).reshape(10, 2)
    table = FeatureTable(torch.from_numpy(x_RF), look_back=4)
    rows_B = [3, 9, 5]
    assert torch.equal(table.windows(torch.tensor(rows_B)), torch.stack([table.x_RF[r - 3 : r + 1] for r in rows_B]))
    assert table.x_RF.numel() == 20


def test_shares_with_unequal_labels_add_up_to_the_gradient_of_the_whole_batch() -> None:
    def fresh_loop(rank: int, world_size: int, sent: list[torch.Tensor]) -> EpochLoop:
        torch.manual_seed(0)
        network = CONFIG.model_copy(update={"dropout": 0.0}).build(3)
        torch.nn.init.normal_(network.head.last.weight, std=0.1)
        table = FeatureTable(torch.randn(40, 3), look_back=6)
        return EpochLoop(network, job(), table, rank, world_size, lambda tensor: sent.append(tensor.clone()))

    with torch.random.fork_rng():
        sent: list[torch.Tensor] = []
        loops = [fresh_loop(rank, 2, sent) for rank in range(2)]
        z_NH = torch.randn(9, 3)
        z_NH[::2, 1:] = torch.nan  # 5 rows of rank 0 with one label each, 4 rows of rank 1 with three
        samples = Samples(torch.arange(10, 19), z_NH)
        whole = loops[0].network
        total, count = summed_loss(whole(loops[0].table.windows(samples.rows_N)), z_NH)
        expected = torch.autograd.grad(total / count, list(whole.parameters()))
        for rank, loop in enumerate(loops):
            loop.step(samples, torch.arange(rank, 9, 2))
    assert [message[1].item() for message in sent] == [5, 12]
    flat = sent[0] + sent[1]
    assert flat[0].item() == pytest.approx(total.item(), rel=1e-5)
    assert torch.allclose(flat[2:] / 17, torch.cat([g.flatten() for g in expected]), atol=1e-6)


def test_a_step_follows_the_gradient_of_the_mean_loss_of_a_label() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loop = EpochLoop(CONFIG.build(3), job(), FeatureTable(torch.randn(40, 3), look_back=6), 0, 1, None)
        loop.network.eval()
        samples = Samples(torch.arange(10, 30), torch.randn(20, 3))
        total, count = summed_loss(loop.network(loop.table.windows(samples.rows_N)), samples.z_NH)
        expected = torch.autograd.grad(total / count, list(loop.network.parameters()))
        loop.step(samples, torch.arange(20))
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(loop.gradients, expected, strict=True))


def test_of_fewer_rows_than_the_stride_every_epoch_takes_one() -> None:
    _, train, _ = prepare(PANEL, job(), torch.device("cpu"))
    few = Samples(train.rows_N[:3], train.z_NH[:3])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        table = FeatureTable(torch.randn(len(PANEL.session_R), 3), look_back=6)
        loop = EpochLoop(CONFIG.build(3), job(stride=16), table, 0, 1, None)
        assert all(loop.train_epoch(few, epoch) > 0 for epoch in range(1, 18))
        assert all(bool(parameter.isfinite().all()) for parameter in loop.network.parameters())


def test_validation_drops_nothing_out() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CONFIG.model_copy(update={"dropout": 0.5}).build(3)
        torch.nn.init.normal_(network.head.last.weight)
        loop = EpochLoop(network, job(), FeatureTable(torch.randn(40, 3), look_back=6), 0, 1, None)
        samples = Samples(torch.arange(10, 30), torch.randn(20, 3))
        assert loop.evaluate(samples) == loop.evaluate(samples)


def test_a_share_that_stopped_trading_has_no_labels_beyond_its_last_bar() -> None:
    stopped = replace(
        PANEL,
        offsets=np.array([0, 420, 840, 940]),
        **{name: getattr(PANEL, name)[:940] for name in ("session_R", "close_R", "log_price_R", "features_RF")},
    )
    _, train, _ = prepare(stopped, job(), torch.device("cpu"))
    of_stopped = train.z_NH[train.rows_N >= 840]
    assert torch.isnan(of_stopped).sum(dim=0).tolist() == [0, 4, 19]  # its last row has no label at all: not a sample


def test_equal_jobs_give_equal_bytes_and_another_seed_gives_others(trained: TrainedNetwork) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(12345)  # whatever the process drew before
        assert train_network(PANEL, job()).to_files() == trained.to_files()
    assert train_network(PANEL, replace(job(), seed=8)).to_files() != trained.to_files()


def test_training_leaves_torchs_random_state_and_threads_as_they_were() -> None:
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    train_network(PANEL, job(threads=threads + 1, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_nothing_after_what_is_known_can_change_the_weights(trained: TrainedNetwork) -> None:
    later = PANEL.date_R > np.datetime64(FOLD.known_through)
    rng = np.random.default_rng(99)
    noisy = replace(
        PANEL,
        log_price_R=np.where(later, rng.normal(size=len(later)), PANEL.log_price_R),
        features_RF=np.where(later[:, None], rng.normal(size=PANEL.features_RF.shape), PANEL.features_RF).astype("f4"),
    )
    assert later.sum() == 3 * 60
    assert train_network(noisy, job()).to_files() == trained.to_files()


def test_features_are_scaled_by_the_training_range_alone(trained: TrainedNetwork) -> None:
    in_training = FOLD.train.mask(PANEL.date_R)
    assert trained.standardiser.mean_F == pytest.approx(PANEL.features_RF[in_training].mean(axis=0), abs=1e-6)


def test_training_that_never_helps_keeps_the_untrained_network_and_says_so() -> None:
    hopeless = LSTM(CONFIG.model_copy(update={"learning_rate": 1.0}))
    noise = replace(PANEL, features_RF=np.random.default_rng(0).normal(size=PANEL.features_RF.shape).astype("f4"))
    hopeless.fit(noise, FOLD, seed=0)
    forecasts = hopeless.forecast(noise, noise.sessions[-1:])
    scale_NH = panel_volatility(noise)[noise.rows_at(noise.sessions[-1:])][:, None] * np.sqrt(HORIZONS)
    expected = stats.t.ppf(LEVELS, 5.0) * np.sqrt(3 / 5)
    assert forecasts.quantiles_NHQ == pytest.approx(scale_NH[..., None] * expected, rel=1e-5)
    assert "no epoch beat the untrained network" in hopeless.notes[0]


def test_training_stops_after_patience_epochs_without_a_better_validation_loss() -> None:
    network = train_network(PANEL, job(learning_rate=1.0, epochs=30, patience=2))
    assert len(network.history) == network.best_epoch + 2
    losses = [network.untrained_loss, *(valid for _, valid in network.history)]
    assert losses[network.best_epoch] == min(losses)


def test_a_loss_that_is_no_number_is_an_error() -> None:
    with pytest.raises(DidNotConverge, match="lstm on the universe did not converge: the loss is nan in epoch 1"):
        train_network(PANEL, job(learning_rate=1e30))


def test_too_long_a_window_is_reported_with_what_there_is() -> None:
    with pytest.raises(InsufficientHistory, match="needs 400 sessions, has 260"):
        train_network(PANEL, job(look_back=400))


def test_several_workers_need_a_way_to_add_up() -> None:
    with pytest.raises(ValueError, match="all_reduce"):
        train_network(PANEL, job(), world_size=2)


def test_in_process_trainer_keeps_the_order_of_jobs_and_tells_of_each(trained: TrainedNetwork) -> None:
    told: list[TrainingJob] = []
    jobs = [replace(job(epochs=1), seed=1), job()]
    networks = InProcessTrainer().train(PANEL, jobs, lambda one, failure: told.append(one))
    assert told == jobs
    assert files_of(networks[1]) == trained.to_files()


def test_processes_train_the_same_networks_to_the_bit_and_tell_of_each(trained: TrainedNetwork) -> None:
    told: list[TrainingJob] = []
    jobs = [replace(job(epochs=1), seed=1), job()]
    networks = ProcessTrainer(2).train(PANEL, jobs, lambda one, failure: told.append(one))
    assert {one.seed for one in told} == {one.seed for one in jobs}
    assert files_of(networks[1]) == trained.to_files()


@pytest.mark.parametrize("trainer", [InProcessTrainer(), ProcessTrainer(2)], ids=["in process", "processes"])
def test_a_job_that_fails_gives_its_reason_and_stops_no_other(trainer: NetworkTrainer, trained: TrainedNetwork) -> None:
    told: dict[int, str | None] = {}
    networks = trainer.train(
        PANEL, [job(look_back=1000), job()], lambda one, failure: told.update({one.config.look_back: failure})
    )
    assert networks[0] == told[1000]
    assert "needs 1000 sessions" in str(told[1000])
    assert told[CONFIG.look_back] is None
    assert files_of(networks[1]) == trained.to_files()


@pytest.mark.parametrize("stopped_after", [1, 3])
def test_a_training_taken_up_after_any_epoch_ends_in_the_same_bytes(stopped_after: int) -> None:
    # Long enough for the learning rate to be halved on the way.
    long = job(epochs=8, patience=6, learning_rate=0.05, dropout=0.3)
    states: dict[int, dict[str, bytes]] = {}
    whole = train_network(PANEL, long, on_epoch=lambda epoch, state: states.update({epoch: state().to_files()}))
    assert sorted(states) == list(range(1, len(whole.history) + 1))
    later: list[int] = []
    taken_up = train_network(
        PANEL,
        long,
        resume=TrainingState.from_files(states[stopped_after]),
        on_epoch=lambda epoch, state: later.append(epoch),
    )
    assert later[0] == stopped_after + 1
    assert taken_up.to_files() == whole.to_files()


def test_the_state_of_a_training_comes_back_from_its_bytes_as_it_was() -> None:
    states: list[TrainingState] = []
    train_network(PANEL, job(epochs=1), on_epoch=lambda epoch, state: states.append(state()))
    back = TrainingState.from_files(states[0].to_files())
    for group in ("network", "averaged", "best", "optimiser"):
        before, after = getattr(states[0], group), getattr(back, group)
        assert {name: (array.shape, array.tobytes()) for name, array in after.items()} == {
            name: (array.shape, array.tobytes()) for name, array in before.items()
        }


def test_a_training_is_not_taken_up_with_another_job_or_damaged_files() -> None:
    states: list[TrainingState] = []
    train_network(PANEL, job(epochs=1), on_epoch=lambda epoch, state: states.append(state()))
    with pytest.raises(ArtifactMismatch, match="the same job, panel and number of workers"):
        train_network(PANEL, replace(job(epochs=1), seed=99), resume=states[0])
    with pytest.raises(ArtifactMismatch, match="cannot be read"):
        TrainingState.from_files({**states[0].to_files(), "state.json": b"{"})


def test_jobs_and_networks_travel_between_processes(trained: TrainedNetwork) -> None:
    assert pickle.loads(pickle.dumps(job())) == job()
    assert pickle.loads(pickle.dumps(trained)).to_files() == trained.to_files()


def test_a_restored_model_forecasts_bit_for_bit_what_the_saved_one_did(model: LSTM) -> None:
    restored = LSTM.restore(CONFIG, model.dump())
    before, after = (m.forecast(PANEL, PANEL.sessions[-60:]) for m in (model, restored))
    assert before.quantiles_NHQ.tobytes() == after.quantiles_NHQ.tobytes()
    assert restored.dump() == model.dump()


def test_a_forecast_does_not_depend_to_the_bit_on_what_else_is_asked_for(model: LSTM) -> None:
    together = model.forecast(PANEL, PANEL.sessions[-75:])
    assert len(together) == 3 * 75
    for n in range(0, 225, 7):
        one = PANEL.select([str(together.symbol_N[n])])
        alone = model.forecast(one, together.origin_N[n : n + 1])
        assert alone.quantiles_NHQ.tobytes() == together.quantiles_NHQ[n].tobytes()


def test_forecasts_come_by_symbol_then_origin_and_only_where_a_window_is_whole(model: LSTM) -> None:
    forecasts = model.forecast(PANEL, PANEL.sessions[[-1, 10, 25]])
    assert forecasts.symbol_N.tolist() == ["S00", "S00", "S01", "S01", "S02", "S02"]  # volatility needs 20 returns
    assert forecasts.origin_N.tolist() == PANEL.sessions[[25, -1] * 3].tolist()
    assert len(model.forecast(PANEL, PANEL.sessions[:5])) == 0


def test_twice_the_volatility_gives_twice_the_spread(model: LSTM) -> None:
    wild = replace(PANEL, log_price_R=2 * PANEL.log_price_R)
    calm_NHQ, wild_NHQ = (model.forecast(p, PANEL.sessions[-5:]).quantiles_NHQ for p in (PANEL, wild))
    assert wild_NHQ == pytest.approx(2 * calm_NHQ, rel=1e-9)


def test_a_model_without_weights_refuses_to_forecast_or_to_be_saved() -> None:
    with pytest.raises(ModelError, match="lstm has not been trained"):
        LSTM(CONFIG).forecast(PANEL, PANEL.sessions[-1:])
    with pytest.raises(ModelError, match="lstm has not been trained"):
        LSTM(CONFIG).dump()


def test_weights_of_another_architecture_are_refused(model: LSTM) -> None:
    with pytest.raises(ArtifactMismatch, match="'look_back': 6"):
        LSTM.restore(CONFIG.model_copy(update={"look_back": 7}), model.dump())


def test_a_change_of_how_it_was_trained_does_not_make_weights_useless(model: LSTM) -> None:
    assert LSTM.restore(CONFIG.model_copy(update={"epochs": 99, "threads": 2}), model.dump()).dump() == model.dump()


def test_features_of_another_specification_are_refused(model: LSTM) -> None:
    with pytest.raises(ArtifactMismatch, match="other-spec"):
        model.forecast(replace(PANEL, spec_hash="other-spec"), PANEL.sessions[-1:])


@pytest.mark.parametrize(
    "damage",
    [
        {"weights.safetensors": b"no weights"},
        {"network.json": b"{"},
        {"network.json": b"{}"},
        {"network.json": b"[]"},
    ],
)
def test_damaged_files_are_refused(model: LSTM, damage: dict[str, bytes]) -> None:
    with pytest.raises(ArtifactMismatch, match="cannot be read"):
        LSTM.restore(CONFIG, {**model.dump(), **damage})


def test_missing_weights_are_refused(model: LSTM) -> None:
    files = model.dump()
    with pytest.raises(ArtifactMismatch, match=r"weights\.safetensors"):
        LSTM.restore(CONFIG, {"network.json": files["network.json"]})


def test_a_feature_still_warming_up_is_never_read(model: LSTM) -> None:
    features_RF = PANEL.features_RF.copy()
    for s in range(3):
        features_RF[PANEL.rows(s)][:30] = np.nan
    warming: Panel = replace(PANEL, features_RF=features_RF)
    origins = PANEL.sessions[30:60]
    forecasts = model.forecast(warming, origins)
    assert forecasts.origin_N.min() == PANEL.sessions[30 + CONFIG.look_back - 1]
    whole = model.forecast(PANEL, origins)
    assert np.array_equal(forecasts.quantiles_NHQ[0], whole.quantiles_NHQ[CONFIG.look_back - 1])


def test_standardised_features_are_clipped_so_that_a_bad_tick_cannot_dominate() -> None:
    table = FeatureTable.of(
        PANEL, Standardiser(mean_F=np.zeros(3, "f4"), sd_F=np.full(3, 0.1, "f4")), 2, torch.device("cpu")
    )
    assert table.x_RF.abs().max() == 5.0
