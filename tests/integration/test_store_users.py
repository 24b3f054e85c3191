"""Row-level security on a real PostgreSQL: who may see and write what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.database import MONDAY, at_once, bars_of, named, temporary_server

from swiftbolt.actions import CorporateActions
from swiftbolt.errors import StoreError
from swiftbolt.findings import Findings
from swiftbolt.store import Store
from swiftbolt.store.statements import migrations

ANN, BOB = {"sub": "ann"}, {"sub": "bob"}
NOBODY = [None, {}, {"sub": None}, {"role": "ann"}]

USER_TABLES = """
    SELECT relname, relrowsecurity AND relforcerowsecurity, EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid)
    FROM pg_class
    WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
        AND (EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'user_id')
            OR has_table_privilege('swiftbolt_app', oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))
    ORDER BY relname
"""


@pytest.fixture
def sql(migrated_url: str) -> Iterator[psycopg.Connection]:
    """A plain connection of the tables' owner."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def settled(store: Store) -> Store:
    """A store in which Ann and Bob have settings."""
    for claims in (ANN, BOB):
        with store.as_user(claims) as user:
            user.save_settings({"of": claims["sub"]})
    return store


@contextmanager
def acting_as(connection: psycopg.Connection, claims: dict[str, str]) -> Iterator[psycopg.Connection]:
    """What an attacker has who can send any SQL within a request of a user."""
    with connection.transaction():
        connection.execute("SET LOCAL ROLE swiftbolt_app")
        connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
        yield connection


def held(sql: psycopg.Connection) -> dict[str, dict[str, str]]:
    return dict(sql.execute("SELECT user_id, settings FROM user_settings ORDER BY user_id").fetchall())


# ---- a user's own rows ------------------------------------------------------------------------------------


def test_a_user_reads_and_replaces_their_own_settings(settled, sql):
    with settled.as_user(ANN) as user:
        assert user.settings() == {"of": "ann"}
        user.save_settings({"theme": "dark", "symbols": ["AAPL", 'o"brien'], "none": None})
        assert user.settings() == {"theme": "dark", "symbols": ["AAPL", 'o"brien'], "none": None}
    with settled.as_user(BOB) as user:
        assert user.settings() == {"of": "bob"}
    assert held(sql)["ann"]["theme"] == "dark"


def test_a_user_without_settings_has_empty_ones(settled):
    with settled.as_user({"sub": "carol"}) as user:
        assert user.settings() == {}


@pytest.mark.parametrize("claims", NOBODY)
def test_without_a_user_there_are_no_rows_and_nothing_can_be_saved(settled, sql, claims):
    with settled.as_user(claims) as user:
        assert user.settings() == {}
    before = held(sql)
    with pytest.raises(StoreError, match="nobody is signed in"), settled.as_user(claims) as user:
        user.save_settings({"mine": True})
    assert held(sql) == before


def test_a_connection_without_claims_sees_no_row_whether_the_setting_is_missing_or_empty(settled, migrated_url):
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        for claims in (None, ""):
            with connection.transaction():
                connection.execute("SET LOCAL ROLE swiftbolt_app")
                if claims is not None:
                    connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [claims])
                assert connection.execute("SELECT count(*) FROM user_settings").fetchone() == (0,)


def test_a_user_cannot_see_change_steal_or_delete_the_rows_of_another(settled, sql):
    before = held(sql)
    with acting_as(sql, ANN):
        assert sql.execute("SELECT user_id FROM user_settings").fetchall() == [("ann",)]
        assert sql.execute("SELECT FROM user_settings WHERE user_id = 'bob'").fetchall() == []
        assert sql.execute("UPDATE user_settings SET settings = '{}' WHERE user_id = 'bob'").rowcount == 0
        assert sql.execute("UPDATE user_settings SET user_id = 'ann' WHERE user_id = 'bob'").rowcount == 0
        assert sql.execute("DELETE FROM user_settings WHERE user_id = 'bob'").rowcount == 0
    assert held(sql) == before


@pytest.mark.parametrize(
    "attack",
    [
        "INSERT INTO user_settings (user_id, settings) VALUES ('carol', '{}')",
        "INSERT INTO user_settings (user_id, settings) VALUES ('bob', '{}')"
        " ON CONFLICT (user_id) DO UPDATE SET settings = excluded.settings",
        "UPDATE user_settings SET user_id = 'carol'",
        "TRUNCATE user_settings",
        "ALTER TABLE user_settings DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_rows ON user_settings",
    ],
)
def test_a_user_cannot_forge_a_row_give_one_away_or_lift_the_rule(settled, sql, attack):
    before = held(sql)
    with pytest.raises(psycopg.errors.InsufficientPrivilege), acting_as(sql, ANN):
        sql.execute(attack.encode())
    assert held(sql) == before


def test_what_a_user_saves_is_undone_when_their_transaction_fails(settled, sql):
    before = held(sql)

    def fail_halfway() -> None:
        with settled.as_user(ANN) as user:
            user.save_settings({"half": "done"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert held(sql) == before


def test_neither_role_nor_claims_leak_into_the_next_transaction_of_the_connection(settled):
    whoami = "SELECT current_user = session_user, nullif(current_setting('request.jwt.claims', true), '')"
    owner = (True, None)
    with settled._database.connection() as connection:
        assert connection.execute(whoami).fetchone() == owner
        with settled.as_user(ANN):
            assert connection.execute(whoami).fetchone() == (False, '{"sub": "ann"}')
        assert connection.execute(whoami).fetchone() == owner
        with pytest.raises(StoreError, match="division by zero"), settled.as_user(ANN):
            connection.execute("SELECT 1 / 0")
        assert connection.execute(whoami).fetchone() == owner
    with settled.as_user(BOB) as user:
        assert user.settings() == {"of": "bob"}


def test_a_users_rows_are_out_of_reach_once_their_transaction_is_over(settled):
    with settled.as_user(ANN) as user:
        pass
    with pytest.raises(StoreError, match="is over"):
        user.settings()
    with pytest.raises(StoreError, match="is over"):
        user.save_settings({})


# ---- what the role may do ---------------------------------------------------------------------------------


def test_a_request_reads_the_market_and_the_releases(store):
    store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "test")
    with store.as_user(None):
        assert store.last_sessions() == {"AAPL": MONDAY}
        assert store.bars() == bars_of(("AAPL", MONDAY, 1.0))
        assert store.actions() == CorporateActions.of()
        assert store.findings() == Findings.none()
        assert [row.symbol for row in store.symbols()] == ["AAPL"]
        assert store.releases() == []
        assert store.active_release() is None


@pytest.mark.parametrize(
    "relation",
    ["stock_prices", "price_forecasts", "arima_predictions", "predictions", "model_results", "forecasts", "scores"],
)
def test_a_request_reads_the_views_of_the_roadmap(sql, relation):
    with acting_as(sql, ANN):
        assert sql.execute(f"SELECT * FROM {relation}".encode()).fetchall() == []


def test_a_request_writes_to_no_table_but_those_of_users(sql):
    with acting_as(sql, ANN):
        writable = sql.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v') AND relnamespace = 'public'::regnamespace"
            " AND has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
        ).fetchall()
    assert writable == [("user_settings",)]


@pytest.mark.parametrize(
    "attempt",
    [
        "INSERT INTO bars SELECT 'AAPL', '2024-01-08', 1, 1, 1, 1, 1, 'forged'",
        "UPDATE bars SET close = 1",
        "DELETE FROM bars_2024",
        "UPDATE active_release SET promotion = 1",
        "SELECT * FROM bar_revisions",
        "SELECT * FROM quarantined_rows",
        "SELECT * FROM symbol_revisions",
        "SELECT * FROM runs",
        "SELECT * FROM run_units",
        "SELECT * FROM leases",
        "SELECT * FROM schema_migrations",
        "CREATE TABLE public.mine ()",
    ],
)
def test_a_request_may_not(sql, attempt):
    with pytest.raises(psycopg.errors.InsufficientPrivilege), acting_as(sql, ANN):
        sql.execute(attempt.encode())


def test_the_store_does_not_ingest_on_behalf_of_a_request(store):
    with pytest.raises((StoreError, AssertionError)), store.as_user(ANN):
        store.upsert_bars(bars_of(("AAPL", MONDAY, 1.0)), "test")
    assert len(store.bars()) == 0


# ---- no table is forgotten --------------------------------------------------------------------------------


def test_every_table_of_users_forces_row_level_security(sql):
    found = sql.execute(USER_TABLES).fetchall()
    assert ("user_settings", True, True) in found
    assert [name for name, is_forced, has_policy in found if not (is_forced and has_policy)] == []


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TABLE forgotten (user_id text)",
        "CREATE TABLE forgotten (user_id text); ALTER TABLE forgotten ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE forgotten (owner text); GRANT INSERT ON forgotten TO swiftbolt_app",
    ],
    ids=["without", "not forced", "writable"],
)
def test_a_table_of_users_that_is_forgotten_would_be_found(sql, planted):
    with sql.transaction(force_rollback=True):
        sql.execute(planted.encode())
        assert ("forgotten", False, False) in sql.execute(USER_TABLES).fetchall()


def test_the_role_can_neither_log_in_nor_pass_the_policies_by(sql):
    role = sql.execute(
        "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles"
        " WHERE rolname = 'swiftbolt_app'"
    ).fetchone()
    assert role == (False, False, False, False, False)


# ---- databases whose user is no superuser -----------------------------------------------------------------


@pytest.fixture
def plain_server() -> Iterator[str]:
    """A server with two databases of a user that may make roles, as Supabase's may, and one of a user that may not."""
    with temporary_server() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE ROLE maker LOGIN CREATEROLE; CREATE ROLE plain LOGIN")
            for name, owner in (("one", "maker"), ("other", "maker"), ("third", "plain")):
                connection.execute(f"CREATE DATABASE {name} OWNER {owner}".encode())
        yield url


def test_the_role_is_made_once_a_server_by_whoever_may_and_the_owner_is_subject_to_the_policies(plain_server):
    one, other, third = (
        make_conninfo(named(plain_server, name), user=user)
        for name, user in (("one", "maker"), ("other", "maker"), ("third", "plain"))
    )
    with Store.connect(one) as store, Store.connect(other) as neighbour:
        every = [name for name, _ in migrations()]
        assert at_once(store.migrate, neighbour.migrate) == [every, every]
        for place in (store, neighbour):
            with place.as_user(ANN) as user:
                user.save_settings({"of": "ann"})
                assert user.settings() == {"of": "ann"}
            with place._database.connection() as connection:
                assert connection.execute("SELECT count(*) FROM user_settings").fetchone() == (0,)

    with Store.connect(third) as store:
        with pytest.raises(StoreError) as caught:
            store.migrate()
        assert str(caught.value) == (
            "the database user plain may not make the role that answers requests: let an administrator run CREATE ROLE"
            " swiftbolt_app NOLOGIN NOSUPERUSER NOBYPASSRLS (where it is missing) and GRANT swiftbolt_app TO plain,"
            " then migrate again"
        )
        with psycopg.connect(plain_server, autocommit=True) as administrator:
            administrator.execute("GRANT swiftbolt_app TO plain")
            store.migrate()
            with store.as_user(ANN) as user:
                user.save_settings({"of": "ann"})
            administrator.execute("ALTER ROLE swiftbolt_app BYPASSRLS")
        with store._database.connection() as connection:
            connection.execute("DELETE FROM schema_migrations WHERE name LIKE '0005%'")
        with pytest.raises(StoreError, match="passes row-level security by"):
            store.migrate()
