"""swiftbolt ingest against vendors: the real clients over real sockets, the real store, the command line itself."""

from __future__ import annotations

import json
from datetime import date

import polars as pl
import pytest
from support.markets import make_bars
from support.vendors.alpaca import KEY as ALPACA_KEY
from support.vendors.alpaca import SECRET as ALPACA_SECRET
from support.vendors.alpaca import AlpacaServer
from support.vendors.polygon import KEY, Fault, PolygonServer, refused

from swiftbolt import cli
from swiftbolt.actions import CorporateAction, CorporateActions
from swiftbolt.bars import PRICES, Bars
from swiftbolt.sessions import session_after

START, END = date(2011, 3, 1), date(2013, 3, 1)
SYMBOLS = ("AAA", "BBB", "CCC")
ACTIONS = CorporateActions.of(
    [
        CorporateAction(symbol="AAA", ex_date=date(2012, 6, 1), kind="split", value=2.0),
        CorporateAction(symbol="BBB", ex_date=date(2012, 8, 1), kind="dividend", value=0.25, known_at=date(2012, 7, 2)),
    ]
)


@pytest.fixture(scope="module")
def bars() -> Bars:
    """As traded: AAA's price halves with its split."""
    frame = make_bars(SYMBOLS, 504, seed=5, end=END).frame
    after = (pl.col("symbol") == "AAA") & (pl.col("session") >= date(2012, 6, 1))
    return Bars(frame=frame.with_columns(pl.when(after).then(pl.col(name) / 2).otherwise(name) for name in PRICES))


@pytest.fixture(autouse=True)
def environment(monkeypatch, migrated_url, tmp_path):
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POLYGON_API_KEY", KEY)
    monkeypatch.setenv("APCA_API_KEY_ID", ALPACA_KEY)
    monkeypatch.setenv("APCA_API_SECRET_KEY", ALPACA_SECRET)


@pytest.fixture
def universe(tmp_path):
    path = tmp_path / "universe.yaml"
    path.write_text(f"symbols: [{', '.join(SYMBOLS)}]\nstart: {START}\nend: {END}\nmin_sessions: 250\n")
    return str(path)


def ingest(server: PolygonServer, universe: str, *options: str) -> int:
    arguments = ["ingest", "--provider", "polygon", "--base-url", server.url, "--universe", universe, *options]
    return cli.run(arguments)


def asked_for_bars(server: PolygonServer) -> list[str]:
    return [path for path in server.paths() if "/aggs/" in path]


def test_bars_and_actions_come_into_the_store_and_are_not_asked_for_again(store, bars, universe, capsys):
    with PolygonServer(bars, ACTIONS, page_size=200) as server:
        assert ingest(server, universe, "--json") == 0
        summary = json.loads(capsys.readouterr().out)
        assert (summary["inserted"], summary["missing"], summary["findings"]) == (3 * 504, {}, {})
        assert store.bars() == bars
        assert store.actions() == ACTIONS
        asked = len(server.paths())
        assert ingest(server, universe) == 0
        assert len(server.paths()) == asked
    assert "nothing was missing" in capsys.readouterr().out


def test_only_the_missing_sessions_are_asked_for(store, bars, universe):
    with PolygonServer(bars, ACTIONS) as server:
        assert ingest(server, universe, "--end", "2012-12-31") == 0
        before = len(asked_for_bars(server))
        assert ingest(server, universe) == 0
        (first, *_) = asked_for_bars(server)[before:]
    assert "/2013-01-02/2013-03-01" in first
    assert store.bars() == bars


def test_a_fetch_that_broke_off_goes_on_behind_the_page_that_came_last(store, bars, universe, capsys):
    with PolygonServer(bars, ACTIONS, page_size=200) as server:
        server.fail(Fault(), Fault(), refused(403, "not in your plan"), on="/aggs/ticker/BBB")
        assert ingest(server, universe) == 1
        shown = capsys.readouterr().err
        assert "POLYGON_API_KEY" in shown
        assert KEY not in shown
        held = {row.symbol: row.sessions for row in store.symbols()}
        assert held == {"AAA": 504, "BBB": 400}
        before = len(asked_for_bars(server))
        assert ingest(server, universe) == 0
        later = asked_for_bars(server)[before:]
    since = session_after(bars.frame.filter(symbol="BBB")["session"][399], 1)
    assert not [path for path in later if "/AAA/" in path]
    assert f"/{since}/2013-03-01" in later[0]
    assert store.bars() == bars
    assert store.actions() == ACTIONS


def test_a_symbol_the_vendor_does_not_know_is_named_and_does_not_stop_the_others(store, bars, tmp_path, capsys):
    path = tmp_path / "universe.yaml"
    path.write_text(f"symbols: [AAA, NOPE, BBB]\nstart: {START}\nend: {END}\n")
    with PolygonServer(bars, ACTIONS) as server:
        assert ingest(server, str(path)) == 0
    assert "polygon does not know" in (shown := capsys.readouterr().err)
    assert "NOPE" in shown
    assert store.bars() == bars.select(["AAA", "BBB"])


def test_a_history_that_changed_is_reported_and_the_old_value_kept(store, bars, universe, capsys):
    session = date(2012, 5, 15)
    changed = pl.when((pl.col("symbol") == "CCC") & (pl.col("session") == session))
    revised = Bars(frame=bars.frame.with_columns(volume=changed.then(pl.col("volume") + 1).otherwise("volume")))
    with PolygonServer(bars, ACTIONS) as server:
        assert ingest(server, universe) == 0
    with PolygonServer(revised, ACTIONS) as server:
        assert ingest(server, universe) == 0  # nothing is missing, so nothing is seen
        assert store.bars() == bars
        assert ingest(server, universe, "--refresh") == 0
    assert store.bars() == revised
    old = store.revisions()
    expected = bars.frame.filter(symbol="CCC", session=session)["volume"].item()
    assert old.select("symbol", "session", "volume").rows() == [("CCC", session, expected)]
    assert "other values than those held, or no more (first: CCC 2012-05-15)" in capsys.readouterr().err


def test_a_bad_tick_is_stored_found_and_listed_with_the_session_it_was_known_from(store, bars, universe, capsys):
    session = date(2012, 11, 15)
    tick = (pl.col("symbol") == "AAA") & (pl.col("session") == session)
    wrong = bars.frame.with_columns(pl.when(tick).then(pl.col(name) / 10).otherwise(name) for name in PRICES)
    with PolygonServer(Bars(frame=wrong), ACTIONS) as server:
        assert ingest(server, universe) == 0
    assert "quarantined 1 row with a close that jumps away and back" in capsys.readouterr().err
    assert cli.run(["findings", "AAA", "--kind", "bad_tick", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["session"], found["known_from"], found["effect"]) == ("2012-11-15", "2012-11-16", "quarantined")


def test_strict_refuses_a_page_with_a_bad_tick_and_writes_nothing_of_it(store, bars, universe, capsys):
    tick = (pl.col("symbol") == "AAA") & (pl.col("session") == date(2012, 11, 15))
    wrong = bars.frame.with_columns(pl.when(tick).then(pl.col(name) / 10).otherwise(name) for name in PRICES)
    with PolygonServer(Bars(frame=wrong), ACTIONS) as server:
        assert ingest(server, universe, "--end", "2012-10-31") == 0
        assert ingest(server, universe, "--strict") == 2
    shown = capsys.readouterr().err
    assert "jumps away and back" in shown
    assert "2012-11-15" in shown
    assert store.bars() == bars.select(end=date(2012, 10, 31))


def test_without_a_key_or_with_a_wrong_one_the_variable_is_named_and_nothing_is_written(
    store, bars, universe, monkeypatch, capsys
):
    with PolygonServer(bars, ACTIONS) as server:
        monkeypatch.setenv("POLYGON_API_KEY", "wrong")
        assert ingest(server, universe) == 1
        monkeypatch.delenv("POLYGON_API_KEY")
        assert ingest(server, universe) == 1
    shown = capsys.readouterr().err.splitlines()
    assert len([line for line in shown if line.startswith("error: ") and "POLYGON_API_KEY" in line]) == 2
    assert not len(store.bars())


def test_a_vendor_that_is_not_there_is_told_in_one_line(store, universe, capsys):
    with PolygonServer(None) as server:
        url = server.url
    arguments = ["ingest", "--provider", "polygon", "--base-url", url, "--universe", universe]
    assert cli.run(arguments) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: polygon")


def test_a_second_vendor_confirms_or_disputes_what_the_first_gave(store, bars, universe, capsys):
    session = date(2012, 9, 14)
    differs = (pl.col("symbol") == "BBB") & (pl.col("session") == session)
    other = bars.frame.with_columns(pl.when(differs).then(pl.col(name) * 1.01).otherwise(name) for name in PRICES)
    with PolygonServer(bars) as first, AlpacaServer(Bars(frame=other)) as second:
        options = ["--cross-check", "alpaca", "--cross-check-url", second.url]
        assert ingest(first, universe, *options) == 0
    shown = capsys.readouterr().out
    assert "1 disagreement of polygon and alpaca" in shown
    assert "2012-09-14" in shown
    assert store.findings(["BBB"]).counts()["source_mismatch"] == 1
