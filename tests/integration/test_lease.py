"""Leases on a real PostgreSQL, between real processes: the dead are known at once, the silent after a while."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from support.database import shut

from cluster.lease import Lease, holder_of, is_alive
from swiftbolt.errors import EnvironmentFault, LeaseLost
from swiftbolt.store import Store

ROOT = Path(__file__).parents[2]
NAME, WHAT = "retrain:demo", "the retrain of this universe"
ELSEWHERE = "elsewhere/7/1.00"

DRIVER = f"""
import sys
from cluster.lease import Lease
from swiftbolt.errors import LeaseLost

url, *intervals = sys.argv[1:]
renew_s, silent_s = map(float, intervals)
with Lease(url, {NAME!r}, what={WHAT!r}, write=print, renew_s=renew_s, silent_s=silent_s) as lease:
    lease.name_run("retrain-1")
    print("holds it", flush=True)
    for line in sys.stdin:
        try:
            lease.require()
            print("holds it", flush=True)
        except LeaseLost as exc:
            print(exc, flush=True)
"""


@contextmanager
def driver(url: str, renew_s: float = 0.05, silent_s: float = 3600.0) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease; what it is asked for by a line it answers by one."""
    arguments = [sys.executable, "-c", DRIVER, url, str(renew_s), str(silent_s)]
    process = subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert read(process) == "holds it"
            yield process
        finally:
            process.kill()


def read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def ask(process: subprocess.Popen[str]) -> str:
    """Whether the other process may go on, as it sees it."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return read(process)


def lease(url: str, write: Callable[[str], object] = lambda line: None, **changes: Any) -> Lease:
    def told(line: str) -> None:
        write(line)

    return Lease(url, NAME, what=WHAT, write=told, **{"silent_s": 3600.0, **changes})


def require_for_ever(own: Lease) -> None:
    while True:
        own.require()


def holder(store: Store) -> str | None:
    held = store.lease(NAME)
    return None if held is None else held.holder


# ---- on one machine ---------------------------------------------------------------------------------------


def test_a_lease_is_held_within_its_block_under_the_name_of_the_run(store: Store, migrated_url: str) -> None:
    with lease(migrated_url) as own:
        assert holder(store) == holder_of(os.getpid())
        own.name_run("retrain-1")
        own.require()
        held = store.lease_of("retrain-1")
        assert held is not None
        assert held.name == NAME
    assert holder(store) is None


def test_a_lease_is_renewed_again_and_again(store: Store, migrated_url: str) -> None:
    with lease(migrated_url, renew_s=0.01):
        seen = set()
        while len(seen) < 5:
            held = store.lease(NAME)
            assert held is not None
            seen.add(held.renewed)


def test_a_living_driver_on_this_machine_is_left_alone_and_named(store: Store, migrated_url: str) -> None:
    with driver(migrated_url) as other:
        with pytest.raises(EnvironmentFault) as caught, lease(migrated_url):
            pass
        assert re.fullmatch(
            rf"run retrain-1 holds {WHAT}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC, as process {other.pid} on"
            rf" {re.escape(socket.gethostname())}: wait for it \(swiftbolt runs\), or end it and run the same command"
            " again",
            str(caught.value),
        )
        assert ask(other) == "holds it"
        assert holder(store) == holder_of(other.pid)
        assert other.stdin is not None
        other.stdin.close()
        assert other.wait() == 0
    assert holder(store) is None


def test_one_that_only_starts_is_left_alone_too(store: Store, migrated_url: str) -> None:
    store.take_lease(NAME, None, holder_of(os.getppid()), silent_s=60)
    with pytest.raises(EnvironmentFault, match=f"^a run that is only starting holds {WHAT}"), lease(migrated_url):
        pass


def test_the_lease_of_a_driver_that_was_killed_is_taken_at_once(store: Store, migrated_url: str) -> None:
    lines: list[str] = []
    with driver(migrated_url) as other:
        dead = holder(store)
        other.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table of processes
        with lease(migrated_url, lines.append):
            assert holder(store) == holder_of(os.getpid())
    assert dead is not None
    store.take_lease(NAME, None, dead, silent_s=60)
    with lease(migrated_url, lines.append):  # and now gone from it
        assert holder(store) == holder_of(os.getpid())
    assert lines == []


def test_a_driver_that_was_stopped_loses_its_lease_and_knows_as_soon_as_it_goes_on(
    store: Store, migrated_url: str
) -> None:
    with driver(migrated_url, renew_s=0.1, silent_s=0.5) as other:
        assert ask(other) == "holds it"
        other.send_signal(signal.SIGSTOP)
        held = store.lease(NAME)
        while held is not None and held.silent_s < 0.5:
            held = store.lease(NAME)
        with lease(migrated_url, silent_s=0.5, renew_s=0.05) as own:
            own.name_run("retrain-2")
            other.send_signal(signal.SIGCONT)
            said = f"{WHAT} was taken over by another driver, as this one was not heard of for 0 s: see swiftbolt runs"
            assert ask(other) == said
            assert ask(other) == said
            assert other.stdin is not None
            other.stdin.close()
            assert other.wait() == 0
            own.require()
            assert holder(store) == holder_of(os.getpid())  # the other gave nothing back that was not its own


def test_a_process_is_known_by_its_number_and_by_when_it_began() -> None:
    began = psutil.Process().create_time()
    assert is_alive(os.getpid(), began)
    assert is_alive(os.getpid(), began + 2.0)  # as after the clock was set
    assert not is_alive(os.getpid(), began - 3600.0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not is_alive(gone.pid, began)


# ---- elsewhere --------------------------------------------------------------------------------------------


def test_one_elsewhere_that_stays_silent_is_waited_for_and_taken_over(store: Store, migrated_url: str) -> None:
    lines: list[str] = []
    store.take_lease(NAME, "retrain-9", ELSEWHERE, silent_s=60)
    before = store.lease(NAME)
    with lease(migrated_url, lines.append, renew_s=0.05, silent_s=1.0):
        after = store.lease(NAME)
    assert before is not None
    assert after is not None
    assert after.holder == holder_of(os.getpid())
    assert (after.taken - before.renewed).total_seconds() >= 1.0
    assert lines == [
        f"run retrain-9 on elsewhere held {WHAT} 0 s ago: waiting up to 1 s to see whether it lives",
    ]


def test_one_elsewhere_that_renews_its_lease_is_left_alone(store: Store, migrated_url: str) -> None:
    store.take_lease(NAME, "retrain-9", ELSEWHERE, silent_s=60)
    with (
        pytest.raises(EnvironmentFault, match=f"^run retrain-9 holds {WHAT}, .* as process 7 on elsewhere: wait"),
        lease(migrated_url, lambda line: store.renew_lease(NAME, ELSEWHERE), renew_s=0.05),
    ):
        pass
    assert holder(store) == ELSEWHERE


def test_one_elsewhere_that_ends_while_it_is_waited_for_leaves_the_lease_to_us(store: Store, migrated_url: str) -> None:
    store.take_lease(NAME, "retrain-9", ELSEWHERE, silent_s=60)
    with lease(migrated_url, lambda line: store.release_lease(NAME, ELSEWHERE), renew_s=0.05):
        assert holder(store) == holder_of(os.getpid())


def test_of_two_that_wait_the_slower_one_is_told_of_the_other(store: Store, migrated_url: str) -> None:
    def be_faster(line: str) -> None:
        store.take_lease(NAME, "retrain-10", "third/8/1.00", silent_s=60, instead_of=ELSEWHERE)

    store.take_lease(NAME, "retrain-9", ELSEWHERE, silent_s=60)
    with (
        pytest.raises(EnvironmentFault, match=r"^run retrain-10 holds .* as process 8 on third: wait"),
        lease(migrated_url, be_faster, renew_s=0.05),
    ):
        pass


# ---- while the store is away ------------------------------------------------------------------------------


@pytest.fixture
def inside(migrated_url: str) -> Iterator[psycopg.Connection]:
    """A connection that stays when the database is shut."""
    with psycopg.connect(migrated_url, autocommit=True) as connection:
        yield connection


def renewed_ago(inside: psycopg.Connection) -> float:
    row = inside.execute("SELECT extract(epoch FROM clock_timestamp() - renewed)::float8 FROM leases").fetchone()
    assert row is not None
    return float(row[0])


def test_a_store_that_is_away_for_longer_than_the_silence_costs_no_lease_that_nobody_took(
    database_url: str, migrated_url: str, inside: psycopg.Connection
) -> None:
    with lease(migrated_url, renew_s=0.05, silent_s=0.3) as own:
        with shut(database_url, inside):
            while renewed_ago(inside) < 0.6:
                own.require()
        while renewed_ago(inside) > 0.3:
            own.require()
        own.require()


def test_what_was_taken_while_the_store_was_away_is_lost_when_it_is_back(
    database_url: str, migrated_url: str, inside: psycopg.Connection
) -> None:
    with lease(migrated_url, renew_s=0.05, silent_s=0.3) as own:
        with shut(database_url, inside):
            inside.execute("UPDATE leases SET holder = %s", (ELSEWHERE,))
            own.require()
        with pytest.raises(LeaseLost, match="taken over by another driver"):
            require_for_ever(own)
    assert inside.execute("SELECT holder FROM leases").fetchall() == [(ELSEWHERE,)]


def test_a_lease_that_cannot_be_given_back_says_when_it_is_free(
    database_url: str, migrated_url: str, inside: psycopg.Connection
) -> None:
    lines: list[str] = []
    own = lease(migrated_url, lines.append)
    own.__enter__()
    with shut(database_url, inside):
        own.__exit__(None, None, None)
    (line,) = lines
    assert line.startswith(f"{WHAT} was not given back, and is free in 3600 s: cannot reach the database")
