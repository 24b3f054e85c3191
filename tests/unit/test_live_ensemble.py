"""Live forecasts without Ray: members answer, fail or are late, and agree with what was released."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from functools import partial
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from support.releases import EQUAL, ORIGIN, SYMBOLS, as_rows, normal_forecast, tiny_bars, write_tiny_release

from serve.ensemble import Ensemble
from serve.member import KEPT_RUNS, Answer, Member
from serve.schemas import forecast_reply
from serve.views import ReleaseRef
from swiftbolt.actions import CorporateActions
from swiftbolt.errors import ArtifactMismatch, InsufficientHistory, ModelError, NoMemberAnswered, NotFound
from swiftbolt.features.engine import build_panel
from swiftbolt.forecast import HORIZONS, MODELS, Forecasts
from swiftbolt.release import read_ensemble, read_explanations, read_forecasts
from swiftbolt.universe import Cohort

BARS = tiny_bars()
COHORT = Cohort.of(SYMBOLS)
RELEASE = ReleaseRef(version="1", run="first", state=EQUAL, cohort=COHORT)


class Answers:
    """A member that drifts by ``daily`` a day, after ``wait_s`` seconds."""

    def __init__(self, name: str, daily: float, wait_s: float = 0.0) -> None:
        self.name, self.daily, self.wait_s = name, daily, wait_s
        self.cancelled, self.answered = False, 0

    async def __call__(self, run, panel) -> Answer:
        try:
            await asyncio.sleep(self.wait_s)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.answered += 1
        forecast = normal_forecast(panel.symbols[0], self.name, self.daily, 0.01, origin=panel.last_session)
        return Answer(forecasts=as_rows(forecast))


class Fails(Answers):
    """A member that fails with what it is given."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name, 0.0)
        self.error = error

    async def __call__(self, run, panel) -> Answer:
        raise self.error


def beside(member: Member):
    """A real member, run in a thread of this process."""
    return partial(asyncio.to_thread, member.forecast)


def panel_of(symbol, cohort=COHORT):
    """What ``swiftbolt.feature_cache.read_panel`` reads from a store: one symbol, seen across its cohort."""
    if symbol not in cohort.symbols:
        raise NotFound(f"there are no bars of {symbol}")
    return build_panel(BARS.select(cohort.symbols), CorporateActions.of()).select([symbol])


def ask(members, symbol="AAPL", model="ensemble", deadline_s=5.0, release=RELEASE, read=panel_of):
    ensemble = Ensemble({member.name: member for member in members}, read, deadline_s)
    return asyncio.run(ensemble.forecast(symbol, release, model))


def median_after_5(view, model="ensemble"):
    return view.by_model[model].quantiles_HQ[HORIZONS.index(5), 3]


def test_members_are_averaged_by_their_weights():
    view = ask(
        [Answers("arima", 0.001), Answers("xgboost", 0.002), Answers("lstm", 0.003), Answers("transformer", 0.0)]
    )
    assert median_after_5(view) == pytest.approx(5 * 0.0015)
    assert (view.symbol, view.origin, view.missing) == ("AAPL", ORIGIN, ())
    assert view.close == BARS.frame.filter(symbol="AAPL", session=ORIGIN)["close"].item()


def test_a_failing_member_is_left_out_and_named():
    view = ask([Answers("arima", 0.001), Fails("xgboost", ModelError("broken")), Answers("lstm", 0.003)])
    assert view.missing == ("xgboost",)
    assert median_after_5(view) == pytest.approx(5 * 0.002)  # the weights of the two left count in full


def test_a_member_with_a_bug_does_not_take_the_others_down():
    assert ask([Answers("arima", 0.001), Fails("lstm", ZeroDivisionError())]).missing == ("lstm",)


def test_a_late_member_is_left_out_named_and_no_longer_waited_for():
    late = Answers("transformer", 0.001, wait_s=60.0)
    started = time.monotonic()
    view = ask([Answers("arima", 0.001), late], deadline_s=0.2)
    assert view.missing == ("transformer",)
    assert late.cancelled
    assert time.monotonic() - started < 10.0


def test_members_are_asked_side_by_side():
    class Meets(Answers):
        """Answers only once all four have been asked."""

        met: asyncio.Barrier

        async def __call__(self, run, panel) -> Answer:
            await self.met.wait()
            return await super().__call__(run, panel)

    Meets.met = asyncio.Barrier(len(MODELS))
    assert ask([Meets(name, 0.001) for name in MODELS], deadline_s=30.0).missing == ()


def test_nobody_answering_names_everybody_and_why():
    with pytest.raises(NoMemberAnswered, match="no model could forecast AAPL: arima failed, lstm late"):
        ask([Fails("arima", ModelError("broken")), Answers("lstm", 0.0, wait_s=60.0)], deadline_s=0.1)


def test_a_symbol_with_too_few_bars_for_any_feature_is_told_so():
    short = build_panel(tiny_bars(196, symbols=["FB"]), CorporateActions.of())
    with pytest.raises(InsufficientHistory, match="FB: needs 261 sessions, has 196"):
        ask([Fails("arima", ModelError("too short"))], "FB", read=lambda *_: short)


def test_a_symbol_without_bars_is_not_found():
    with pytest.raises(NotFound, match="ZZZZ"):
        ask([Answers("arima", 0.0)], "ZZZZ")


def test_one_model_is_asked_alone():
    view = ask([Answers("arima", 0.001), Fails("lstm", AssertionError("was asked"))], model="arima")
    assert (tuple(view.by_model), view.missing) == (("arima",), ())
    with pytest.raises(NoMemberAnswered, match="lstm failed"):
        ask([Answers("arima", 0.001), Fails("lstm", ModelError("broken"))], model="lstm")


def test_preparing_asks_every_member_without_a_deadline_and_survives_one_that_cannot(caplog):
    patient = Answers("arima", 0.0, wait_s=0.2)
    ensemble = Ensemble({"arima": patient, "lstm": Fails("lstm", ModelError("broken"))}, panel_of, deadline_s=0.01)
    asyncio.run(ensemble.prepare("AAPL", RELEASE))
    assert (patient.answered, patient.cancelled) == (1, False)
    assert "lstm cannot serve run first: broken" in caplog.text


# ---- real members -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> Path:
    """A folder with a release of all four models, fitted on three symbols together."""
    folder = tmp_path_factory.mktemp("artifacts")
    write_tiny_release(folder, "first", build_panel(BARS, CorporateActions.of()))
    return folder


@pytest.fixture
def copied(artifacts, tmp_path) -> Path:
    """A copy to damage."""
    copytree(artifacts, tmp_path / "artifacts")
    return tmp_path / "artifacts"


def test_a_live_forecast_on_the_releases_own_bars_is_the_released_one_to_the_bit(artifacts):
    """Live, one symbol goes through its own panel; in the release it was one of three."""
    release = ReleaseRef(version="1", run="first", state=read_ensemble(artifacts / "first"), cohort=COHORT)
    members = {name: beside(Member(name, artifacts)) for name in MODELS}
    ensemble = Ensemble(members, panel_of, deadline_s=60.0)
    released, explained = read_forecasts(artifacts / "first"), read_explanations(artifacts / "first")
    for symbol in SYMBOLS:
        view = asyncio.run(ensemble.forecast(symbol, release, "ensemble"))
        assert view.missing == ()
        for model, forecast in view.by_model.items():
            (wanted,) = Forecasts.from_frame(released.filter(model=model, symbol=symbol))
            assert (forecast.quantiles_HQ == wanted.quantiles_HQ).all(), f"{model} of {symbol}"
        why = [one for one in explained["xgboost"] if one.symbol == symbol]
        assert max(len(one.largest) for one in why) == 5
        assert {name: list(said) for name, said in view.explanations.items()} == {"xgboost": why}
        assert forecast_reply(view, "ensemble", 20, stale=False).missing == []


def test_a_member_loads_an_artifact_once(copied):
    member = Member("xgboost", copied)
    before = member.forecast("first", panel_of("IBM"))
    rmtree(copied / "first")
    assert member.forecast("first", panel_of("IBM")) == before


def test_a_changed_byte_is_refused_and_what_was_loaded_stays(copied):
    member = Member("xgboost", copied)
    member.forecast("first", panel_of("IBM"))
    copytree(copied / "first", copied / "second")
    file = next((copied / "second" / "xgboost").glob("*.ubj"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(ArtifactMismatch, match="bytes"):
        member.forecast("second", panel_of("IBM"))
    assert len(member.forecast("first", panel_of("IBM")).forecasts) == 1


def test_an_artifact_for_other_features_or_of_no_release_is_refused(artifacts):
    member = Member("xgboost", artifacts)
    with pytest.raises(ArtifactMismatch, match="feature set"):
        member.forecast("first", dataclasses.replace(panel_of("IBM"), spec_hash="0" * 64))
    with pytest.raises(ArtifactMismatch, match="cannot be read"):
        member.forecast("never", panel_of("IBM"))


def test_a_member_that_cannot_forecast_a_symbol_says_so(artifacts):
    panel = build_panel(tiny_bars(30, symbols=["FB"]), CorporateActions.of())
    with pytest.raises(ModelError, match="FB"):
        Member("xgboost", artifacts).forecast("first", panel)


def test_a_member_keeps_the_newest_runs_it_was_asked_for(copied):
    member, panel = Member("arima", copied), panel_of("IBM")
    for run in ("second", "third"):
        copytree(copied / "first", copied / run)
    for run in ("first", "second", "third"):
        member.forecast(run, panel)
    rmtree(copied)
    assert KEPT_RUNS == 2
    for run in ("second", "third"):
        member.forecast(run, panel)
    with pytest.raises(ArtifactMismatch):
        member.forecast("first", panel)
