"""The graph on a real Ray Serve over a real PostgreSQL: promotion, live forecasts, and what may fail."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest
from support.database import temporary_database
from support.releases import ORIGIN, publish_tiny_release, tiny_bars

from swiftbolt.actions import CorporateActions
from swiftbolt.features.engine import build_panel
from swiftbolt.forecast import MODELS
from swiftbolt.models.explanations import explain_newest
from swiftbolt.panel import Panel
from swiftbolt.release import read_member
from swiftbolt.store import ReleaseRow, Store

pytestmark = pytest.mark.ray

APPLICATION = f"graph-{os.getpid()}"
DEADLINE_S = 5.0
PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class Graph:
    """A running graph, and what it answered before anything was promoted."""

    http: httpx.Client
    store: Store
    database: str
    artifacts: Path
    panel: Panel
    first: ReleaseRow
    unpromoted: dict[str, httpx.Response]

    def forecast(self, model: str = "ensemble", **parameters) -> httpx.Response:
        return self.http.get(f"/api/{model}/forecast", params={"symbol": "AAPL", **parameters})

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s in vain"
            time.sleep(0.1)

    def promote(self, release: ReleaseRow) -> None:
        """Promote and wait until it answers."""
        self.store.promote(release.version)
        self.wait_for(lambda: self.forecast().json().get("model_version") == str(release.version))


@pytest.fixture(scope="module")
def graph(ray_cluster, database_url) -> Iterator[Graph]:
    from ray import serve

    from serve.app import AppArgs, build_app

    home = Path(tempfile.mkdtemp(prefix="swiftbolt-graph-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    bars = tiny_bars()
    with (
        temporary_database(database_url) as url,
        Store.connect(url) as store,
        pytest.MonkeyPatch.context() as environment,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0) as http,
    ):
        store.migrate()
        store.upsert_bars(bars, source="test")
        environment.setenv("SWIFTBOLT_HOME", str(home))
        environment.setenv("DATABASE_URL", url)
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        try:
            args = AppArgs(deadline_s=DEADLINE_S, poll_s=0.2, newest_every_s=0.2)
            serve.run(build_app(args), name=APPLICATION, route_prefix="/")
            paths = ("/health", "/ready", "/api/symbols", "/api/ensemble/forecast?symbol=AAPL")
            unpromoted = {path: http.get(path) for path in paths}
            panel = build_panel(bars, CorporateActions.of())
            first = publish_tiny_release(store, home / "artifacts", panel)
            running = Graph(http, store, url, home / "artifacts", panel, first, unpromoted)
            running.promote(first)
            yield running
        finally:
            serve.shutdown()
            shutil.rmtree(home)


def test_before_a_promotion_there_is_no_forecast_and_after_it_there_is_without_a_restart(graph):
    statuses = {path: response.status_code for path, response in graph.unpromoted.items()}
    assert statuses == {
        "/health": 200,
        "/ready": 503,
        "/api/symbols": 200,
        "/api/ensemble/forecast?symbol=AAPL": 503,
    }
    assert graph.unpromoted["/ready"].json()["type"] == "urn:swiftbolt:problem:no-release"
    assert graph.http.get("/ready").json()["as_of"] == ORIGIN.isoformat()
    reply = graph.forecast(horizon=20).json()
    assert (len(reply["price_targets"]), reply["missing"], reply["stale"]) == (20, [], False)


@pytest.mark.parametrize("model", ["ensemble", *MODELS])
def test_live_on_the_releases_bars_gives_the_released_numbers_to_the_bit(graph, model):
    graph.wait_for(lambda: graph.forecast(model, live=True).json().get("missing") == [])  # models load once, in time
    live = graph.forecast(model, horizon=20, live=True).json()
    released = graph.forecast(model, horizon=20).json()
    assert live.pop("timestamp") > released.pop("timestamp")
    assert live == released


@pytest.mark.parametrize("live", [False, True])
def test_why_is_what_the_released_trees_say_of_the_stored_bars_to_the_bit(graph, live):
    graph.wait_for(lambda: graph.forecast(live=True).json().get("missing") == [])
    trees = read_member(graph.artifacts / graph.first.run, "xgboost", spec_hash=graph.panel.spec_hash)
    said = {one.horizon: one.largest for one in explain_newest(trees, graph.panel) if one.symbol == "AAPL"}
    assert max(len(largest) for largest in said.values()) == 5
    for model, horizon in product(("xgboost", "ensemble"), said):
        why = graph.forecast(model, horizon=horizon, live=live).json()["why"]
        assert [(part["feature"], part["value"], part["contribution"]) for part in why] == [
            (part.feature, part.value, part.log_return) for part in said[horizon]
        ]
    assert graph.forecast("arima", live=live).json()["why"] == []


def test_a_member_whose_artifact_is_damaged_is_named_and_a_rollback_mends_it(graph):
    second = publish_tiny_release(graph.store, graph.artifacts, graph.panel)
    weights = graph.artifacts / second.run / "lstm" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    graph.promote(second)
    reply = graph.forecast(live=True)
    assert (reply.status_code, reply.json()["missing"]) == (200, ["lstm"])
    assert reply.json()["components"]["lstm"] is None
    assert reply.json()["model_version"] == str(second.version)
    alone = graph.forecast("lstm", live=True)
    assert (alone.status_code, alone.json()["type"]) == (503, "urn:swiftbolt:problem:no-member-answered")
    assert "lstm failed" in alone.json()["detail"]
    graph.store.rollback()
    graph.wait_for(lambda: graph.forecast().json()["model_version"] == str(graph.first.version))
    graph.wait_for(lambda: graph.forecast(live=True).json()["missing"] == [])


def test_a_member_that_does_not_answer_in_time_is_named(graph):
    with frozen("transformer"):
        started = time.monotonic()
        reply = graph.forecast(live=True)
        took = time.monotonic() - started
    assert (reply.status_code, reply.json()["missing"]) == (200, ["transformer"])
    assert DEADLINE_S <= took < DEADLINE_S + 10
    assert graph.forecast().json()["missing"] == []  # the release itself is whole
    graph.wait_for(lambda: graph.forecast(live=True).json()["missing"] == [])


def test_while_the_database_is_away_the_release_is_answered_and_flagged_stale(graph):
    with closed(graph.database):
        graph.wait_for(lambda: graph.forecast().json()["stale"] is True)
        assert graph.http.get("/ready").json()["store_reachable"] is False
        bars = graph.http.get("/api/bars/AAPL", params={"limit": 1}).json()
        assert (bars["stale"], bars["bars"][0]["session"]) == (True, ORIGIN.isoformat())
        live = graph.forecast(live=True)
        assert (live.status_code, live.json()["type"]) == (503, "urn:swiftbolt:problem:store-unavailable")
        assert graph.http.get("/health").status_code == 200
    graph.wait_for(lambda: graph.forecast().json()["stale"] is False)
    graph.wait_for(lambda: graph.forecast(live=True).status_code == 200)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/ensemble/forecast?symbol=ZZZZ", 404),
        ("/api/ensemble/forecast?symbol=ZZZZ&live=true", 404),
        ("/api/ensemble/forecast?symbol=AAPL&horizon=0", 422),
        ("/api/ensemble/forecast?symbol=AAPL&horizon=21", 422),
        ("/api/ensemble/forecast?symbol=AAPL&horizon=x", 422),
        ("/api/nothing", 404),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/api/scorecard", 200),
        ("/api/releases", 200),
        ("/api/bars/MSFT", 200),
    ],
)
def test_requests_through_the_proxy_are_answered_as_documented(graph, path, status):
    response = graph.http.get(path)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("application/problem+json") == (status >= 400)


@contextmanager
def frozen(deployment: str) -> Iterator[None]:
    """Stop the process of a deployment's replica for the time of the block, as a machine that swaps would."""
    title = f"ServeReplica:{APPLICATION}:{deployment}"
    (replica,) = [process for process in psutil.process_iter() if title in " ".join(_command_line(process))]
    replica.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        replica.send_signal(signal.SIGCONT)


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def closed(url: str) -> Iterator[None]:
    """Disconnect everyone from a database and let nobody in for the time of the block."""
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, dbname="postgres", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        try:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
