"""Every route and every error over HTTP, without Ray: the plain application over a desk."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime
from types import MappingProxyType

import httpx
import pytest
from support.releases import ORIGIN, snapshot_by_hand, tiny_bars, view_by_hand

from serve.desk import Desk
from serve.ingress import create_api
from serve.problems import KINDS, kind_of
from serve.snapshot import SnapshotKeeper, State
from swiftbolt import errors
from swiftbolt.errors import InsufficientHistory, NoMemberAnswered, StoreError, StoreUnavailable
from swiftbolt.forecast import MODELS
from swiftbolt.store import ReleaseRow

NEWER = date(2013, 3, 4)
RELEASE = ReleaseRow(
    version=3,
    run="retrain-by-hand",
    active=True,
    release_digest="0" * 64,
    origin=ORIGIN,
    created=datetime(2013, 3, 1, 22, 0, tzinfo=UTC),
    directory="/nowhere",
    reproducible=True,
)


class ScriptedStore:
    """Stands where the store would: answers with a few bars, or fails as told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure

    def bars(self, symbols, start=None, end=None):
        self._fail()
        return tiny_bars(40, symbols=list(symbols)).select(start=start, end=end)

    def releases(self):
        self._fail()
        return [RELEASE]

    def _fail(self):
        if self.failure is not None:
            raise self.failure


class ScriptedGraph:
    """Stands where the live graph would: answers with one view, or fails as told."""

    def __init__(self, view=None, failure: Exception | None = None) -> None:
        self.view, self.failure, self.asked = view, failure, []

    async def forecast(self, symbol, release, model):
        self.asked.append((symbol, release.version, model))
        if self.failure is not None:
            raise self.failure
        return self.view


PROMOTED = State(
    snapshot=snapshot_by_hand(view_by_hand("AAPL"), view_by_hand("IBM", close=200.0)),
    newest=MappingProxyType({"AAPL": ORIGIN, "IBM": NEWER, "FB": ORIGIN}),
    reachable=True,
)
NOTHING_PROMOTED = State(newest=PROMOTED.newest, reachable=True)


class Client:
    """Asks the application as a browser would."""

    def __init__(self, state: State = PROMOTED, graph=None, store=None, *, crash_on_bug: bool = True) -> None:
        store = store or ScriptedStore()
        keeper = SnapshotKeeper(lambda: store, artifacts=None)
        keeper.state = state
        self.keeper = keeper
        self.graph = graph or ScriptedGraph()
        self._api = create_api(Desk(keeper, self.graph, lambda: store, MODELS))
        self._crash_on_bug = crash_on_bug

    def ask(self, method: str, url: str, **arguments) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self._api, raise_app_exceptions=self._crash_on_bug)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, url, **arguments)

        return asyncio.run(once())

    def get(self, url: str, **parameters) -> httpx.Response:
        return self.ask("GET", url, params=parameters)


def assert_problem(response: httpx.Response, status: int, kind: str, *words: str) -> None:
    """The response is a problem document of that kind whose one sentence has those words."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "instance"}
    assert problem["type"] == f"urn:swiftbolt:problem:{kind}"
    assert problem["status"] == status
    assert problem["instance"] == response.url.path
    assert problem["detail"].endswith(".")
    assert "\n" not in problem["detail"]
    for word in words:
        assert word in problem["detail"]


# ---- what is answered ---------------------------------------------------------------------------------------


def test_a_forecast_is_answered_from_memory_without_asking_anyone():
    client = Client(store=ScriptedStore(AssertionError("the store was asked")))
    reply = client.get("/api/ensemble/forecast", symbol="AAPL", horizon=3)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert (reply.json()["symbol"], reply.json()["horizon"], len(reply.json()["price_targets"])) == ("AAPL", 3, 3)
    assert client.graph.asked == []


def test_get_and_post_answer_alike_and_the_horizon_is_five_unless_said():
    client = Client()
    by_get = client.get("/api/ensemble/forecast", symbol="AAPL")
    by_post = client.ask("POST", "/api/ensemble/forecast", json={"symbol": "AAPL"})
    assert by_get.content == by_post.content
    assert by_get.json()["horizon"] == 5


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_a_route_of_its_own(model):
    reply = Client().get(f"/api/{model}/forecast", symbol="AAPL").json()
    assert [name for name, value in reply["components"].items() if value is not None] == [model]


def test_a_ticker_may_be_typed_in_lower_case():
    assert Client().get("/api/ensemble/forecast", symbol="aapl").json()["symbol"] == "AAPL"


def test_a_forecast_is_stale_once_the_store_holds_a_newer_bar_or_is_away():
    client = Client()
    stale = {symbol: client.get("/api/ensemble/forecast", symbol=symbol).json()["stale"] for symbol in ("AAPL", "IBM")}
    assert stale == {"AAPL": False, "IBM": True}
    client.keeper.state = State(snapshot=PROMOTED.snapshot, newest=PROMOTED.newest, reachable=False)
    assert client.get("/api/ensemble/forecast", symbol="AAPL").json()["stale"] is True


def test_another_promoted_release_answers_at_once():
    client = Client()
    assert client.get("/api/ensemble/forecast", symbol="AAPL").json()["model_version"] == "3"
    client.keeper.state = State(
        snapshot=snapshot_by_hand(view_by_hand("AAPL", version="4")), newest=PROMOTED.newest, reachable=True
    )
    assert client.get("/api/ensemble/forecast", symbol="AAPL").json()["model_version"] == "4"


def test_live_asks_the_graph_for_the_model_wanted_with_the_release_in_memory():
    graph = ScriptedGraph(view=view_by_hand("FB", close=27.78))
    reply = Client(graph=graph).get("/api/lstm/forecast", symbol="FB", live="true")
    assert reply.json()["current_price"] == 27.78
    assert graph.asked == [("FB", "3", "lstm")]


def test_bars_come_oldest_first_and_the_limit_keeps_the_newest():
    reply = Client().get("/api/bars/AAPL", limit=2, end="2013-02-28").json()
    assert [bar["session"] for bar in reply["bars"]] == ["2013-02-27", "2013-02-28"]
    assert set(reply["bars"][0]) == {"session", "open", "high", "low", "close", "volume"}
    assert reply["stale"] is False


def test_bars_kept_with_the_release_are_answered_while_the_database_is_away():
    client = Client(store=ScriptedStore(StoreUnavailable("gone")))
    reply = client.get("/api/bars/AAPL", start="2013-03-01").json()
    assert ([bar["session"] for bar in reply["bars"]], reply["stale"]) == (["2013-03-01"], True)
    assert_problem(client.get("/api/bars/FB"), 503, "store-unavailable")


def test_symbols_say_what_there_is_and_what_is_forecast():
    assert Client().get("/api/symbols").json() == [
        {"symbol": "AAPL", "last_session": "2013-03-01", "has_forecast": True},
        {"symbol": "FB", "last_session": "2013-03-01", "has_forecast": False},
        {"symbol": "IBM", "last_session": "2013-03-04", "has_forecast": True},
    ]


def test_releases_and_scorecard_are_told_as_they_are():
    client = Client()
    (release,) = client.get("/api/releases").json()
    assert (release["version"], release["active"], release["origin"]) == ("3", True, "2013-03-01")
    assert client.get("/api/scorecard").json() == {"models": {"arima": {"1": {"crps": 0.0123}}}}


def test_health_is_always_well_and_ready_only_with_a_release():
    away = State()
    for state in (PROMOTED, NOTHING_PROMOTED, away):
        assert Client(state).get("/health").json() == {"status": "ok"}
    assert Client().get("/ready").json()["model_version"] == "3"
    assert_problem(Client(NOTHING_PROMOTED).get("/ready"), 503, "no-release", "swiftbolt promote")
    assert_problem(Client(away).get("/ready"), 503, "store-unavailable")


def test_the_documentation_page_is_there():
    assert Client().get("/docs").status_code == 200


# ---- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["ZZZZ", "\x00", "'; drop table bars", "Ä" * 64, "..", "AAPL "])
def test_an_unknown_symbol_is_not_found_however_it_is_written(symbol):
    client = Client()
    assert_problem(client.get("/api/ensemble/forecast", symbol=symbol), 404, "not-found", "/api/symbols")
    assert_problem(client.get("/api/ensemble/forecast", symbol=symbol, live="true"), 404, "not-found")


def test_an_unknown_symbol_has_no_bars():
    assert_problem(Client().get("/api/bars/ZZZZ"), 404, "not-found", "ZZZZ")


@pytest.mark.parametrize("horizon", ["0", "21", "x", "-1", "1.5", "", "9" * 400])
def test_a_horizon_that_is_no_number_from_1_to_20_is_invalid(horizon):
    response = Client().get("/api/ensemble/forecast", symbol="AAPL", horizon=horizon)
    assert_problem(response, 422, "invalid-request", "horizon")


@pytest.mark.parametrize("horizon", [0, 21, "x", None, 1e400, [5], {"a": 1}])
def test_a_horizon_in_a_body_is_held_to_the_same(horizon):
    body = json.dumps({"symbol": "AAPL", "horizon": horizon})
    response = Client().ask("POST", "/api/lstm/forecast", content=body, headers={"content-type": "application/json"})
    assert_problem(response, 422, "invalid-request", "horizon")


@pytest.mark.parametrize(
    "body",
    [b"", b"symbol=AAPL", b'{"symbol": ', b"\xff\xfe", b"[" * 100_000, b'{"symbol": ' + b"9" * 5000 + b"}", b"null"],
)
def test_a_body_that_is_not_the_json_asked_for_is_invalid(body):
    response = Client().ask(
        "POST", "/api/ensemble/forecast", content=body, headers={"content-type": "application/json"}
    )
    assert_problem(response, 422, "invalid-request")


def test_a_body_without_its_content_type_is_invalid():
    response = Client().ask("POST", "/api/ensemble/forecast", content=b'{"symbol": "AAPL"}')
    assert_problem(response, 422, "invalid-request")


@pytest.mark.parametrize("body", [{}, {"symbol": ""}, {"symbol": 5}, {"symbol": "A" * 65}, {"symbol": "AAPL", "x": 1}])
def test_a_body_with_a_field_missing_wrong_or_unknown_is_invalid(body):
    assert_problem(Client().ask("POST", "/api/ensemble/forecast", json=body), 422, "invalid-request")


def test_a_key_that_no_encoding_can_hold_is_still_answered():
    body = b'{"symbol": "AAPL", "\\ud800": 1}'
    response = Client().ask(
        "POST", "/api/ensemble/forecast", content=body, headers={"content-type": "application/json"}
    )
    assert_problem(response, 422, "invalid-request")


def test_the_input_is_not_echoed_and_a_long_detail_is_cut():
    response = Client().ask("POST", "/api/ensemble/forecast", json={"symbol": "AAPL", "k" * 9000: 1})
    assert_problem(response, 422, "invalid-request")
    assert len(response.json()["detail"]) < 400


@pytest.mark.parametrize("query", [{"start": "yesterday"}, {"limit": "0"}, {"limit": "10001"}, {"end": "2013-02-30"}])
def test_bars_by_a_day_or_limit_that_is_none_are_invalid(query):
    assert_problem(Client().get("/api/bars/AAPL", **query), 422, "invalid-request", next(iter(query)))


def test_before_the_first_promotion_forecasts_name_the_remedy():
    client = Client(NOTHING_PROMOTED)
    for path in ("/api/ensemble/forecast?symbol=AAPL", "/api/arima/forecast?symbol=AAPL&live=true", "/api/scorecard"):
        assert_problem(client.ask("GET", path), 503, "no-release", "swiftbolt promote")
    assert client.get("/api/symbols").json()[0]["has_forecast"] is False


def test_a_promoted_release_that_was_refused_is_named():
    refused = State(newest=PROMOTED.newest, reachable=True, refused=4)
    assert_problem(Client(refused).get("/ready"), 503, "no-release", "release 4", "swiftbolt rollback")


def test_a_symbol_the_release_left_out_points_to_the_live_graph():
    client = Client()
    assert_problem(client.get("/api/ensemble/forecast", symbol="FB"), 404, "no-forecast", "FB", "live=true")


def test_a_model_that_has_no_forecast_of_a_symbol_is_named():
    view = view_by_hand("AAPL")
    without = {name: forecast for name, forecast in view.by_model.items() if name != "arima"}
    state = State(
        snapshot=snapshot_by_hand(
            type(view)(**{name: getattr(view, name) for name in view.__slots__} | {"by_model": without})
        ),
        newest=PROMOTED.newest,
        reachable=True,
    )
    assert_problem(Client(state).get("/api/arima/forecast", symbol="AAPL"), 404, "no-forecast", "by arima")


@pytest.mark.parametrize(
    ("failure", "status", "kind"),
    [
        (NoMemberAnswered("no model could forecast AAPL: arima late"), 503, "no-member-answered"),
        (InsufficientHistory("AAPL", 261, 196), 422, "insufficient-history"),
        (StoreUnavailable("cannot reach the database at 10.1.2.3:5432"), 503, "store-unavailable"),
        (StoreError("relation bars does not exist"), 503, "store-failed"),
        (errors.ServingError("a deployment failed: KeyError('/srv/secret')"), 503, "unavailable"),
        (errors.ArtifactMismatch("/srv/artifacts/run: bytes changed"), 503, "unavailable"),
    ],
)
def test_a_live_forecast_that_fails_says_why_without_showing_internals(failure, status, kind):
    response = Client(graph=ScriptedGraph(failure=failure)).get("/api/ensemble/forecast", symbol="AAPL", live="1")
    assert_problem(response, status, kind)
    assert not any(secret in response.text for secret in ("10.1.2.3", "/srv", "relation"))


def test_a_path_or_method_there_is_not_is_a_problem_too():
    client = Client()
    assert_problem(client.get("/api/oracle/forecast", symbol="AAPL"), 404, "not-found", "/docs")
    response = client.ask("DELETE", "/api/ensemble/forecast")
    assert_problem(response, 405, "method-not-allowed", "/docs")
    assert set(response.headers["allow"].split(", ")) <= {"GET", "POST"}


def test_a_bug_of_ours_is_a_problem_without_internals_and_is_logged(caplog):
    client = Client(graph=ScriptedGraph(failure=KeyError("/srv/secret")), crash_on_bug=False)
    response = client.get("/api/ensemble/forecast", symbol="AAPL", live="true")
    assert_problem(response, 500, "unexpected")
    assert "secret" not in response.text
    assert "KeyError: '/srv/secret'" in caplog.text


# ---- what is promised ---------------------------------------------------------------------------------------


def test_every_error_of_ours_is_given_a_status_and_none_is_a_500():
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.SwiftBoltError)]
    assert len(classes) > 15
    assert {kind_of(cls.__new__(cls)).status for cls in classes} == {404, 422, 503}
    assert len({kind.slug for kind in KINDS.values()}) == len(KINDS)


def test_the_openapi_document_names_every_operation_once_and_documents_problems():
    document = Client().get("/openapi.json").json()
    operations = [op for operations in document["paths"].values() for op in operations.values()]
    names = [operation["operationId"] for operation in operations]
    assert sorted(names) == sorted(
        [f"{method}_{model}_forecast" for method in ("get", "post") for model in ("ensemble", *MODELS)]
        + ["get_bars", "get_symbols", "get_releases", "get_scorecard", "get_health", "get_ready"]
    )
    schemas = document["components"]["schemas"]
    assert "why" in schemas["ForecastReply"]["required"]
    assert "Log return over horizon sessions" in schemas["Reason"]["properties"]["contribution"]["description"]
    assert set(schemas["Reason"]["required"]) == {"feature", "value", "contribution", "horizon", "description"}
    failing = document["paths"]["/api/ensemble/forecast"]["get"]["responses"]
    assert set(failing) == {"200", "404", "422", "503"}
    for status in ("404", "422", "503"):
        schema = failing[status]["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/Problem"}
    assert "HTTPValidationError" not in document["components"]["schemas"]
