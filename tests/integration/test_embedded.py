"""The embedded PostgreSQL: started once, joined by all, surviving whoever started it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from swiftbolt.errors import EnvironmentFault
from swiftbolt.settings import Settings
from swiftbolt.store import embedded, resolve_url

START_AND_PRINT = """
import sys
from pathlib import Path
from swiftbolt.store import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.pid, server.url)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a space and a quote in its name, as people have; its server is stopped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sb o'x ", dir="/tmp"))
    yield folder
    embedded.stop(folder / "postgres")
    shutil.rmtree(folder)


def start_elsewhere(data_directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", START_AND_PRINT, str(data_directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_starting_at_once_share_one_server_that_outlives_them(home):
    starters = [start_elsewhere(home / "postgres") for _ in range(2)]
    answers = [starter.communicate(timeout=60)[0].split() for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0]
    assert answers[0] == answers[1]

    joined = embedded.start(home / "postgres")
    assert [str(joined.pid), joined.url] == answers[0]
    assert embedded.running_url(home / "postgres") == joined.url
    with psycopg.connect(joined.url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert (home / "postgres").stat().st_mode & 0o777 == 0o700


def test_data_survives_a_stop_and_a_kill_even_when_another_program_has_got_the_process_id(home):
    settings = Settings(home=home, database_url=None)
    data_directory = settings.postgres_data
    with psycopg.connect(resolve_url(settings)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert embedded.stop(data_directory)
    assert embedded.running_url(data_directory) is None
    assert not embedded.stop(data_directory)

    server = embedded.start(data_directory)
    os.kill(server.pid, signal.SIGKILL)
    while embedded.running_url(data_directory) is not None:
        time.sleep(0.01)
    owner = data_directory.stat()
    other = subprocess.Popen(["sleep", "60"], user=owner.st_uid, group=owner.st_gid, cwd="/")
    try:
        for lock in (data_directory / "postmaster.pid", data_directory / ".s.PGSQL.5432.lock"):
            lock.write_text(lock.read_text().replace(str(server.pid), str(other.pid), 1))
        with psycopg.connect(embedded.start(data_directory).url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_home_too_deep_for_a_socket_gets_a_short_private_one_that_goes_with_the_server(home):
    data_directory = home / ("deep" * 25) / "postgres"
    url = embedded.start(data_directory).url
    try:
        socket_directory = Path(psycopg.conninfo.conninfo_to_dict(url)["host"])
        assert socket_directory.parent == Path("/tmp")
        assert socket_directory.stat().st_mode & 0o777 == 0o700
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        embedded.stop(data_directory)
    assert not socket_directory.exists()


def test_nothing_runs_where_nothing_was_started(home):
    assert embedded.running_url(home / "postgres") is None
    assert not embedded.stop(home / "postgres")
    assert list(home.iterdir()) == []


def test_a_folder_of_other_files_is_refused_and_left_alone(home):
    (home / "postgres").mkdir()
    (home / "postgres" / "diary.txt").write_text("mine")
    with pytest.raises(EnvironmentFault, match="holds files that are not PostgreSQL's: choose another SWIFTBOLT_HOME"):
        embedded.start(home / "postgres")
    assert [path.name for path in (home / "postgres").iterdir()] == ["diary.txt"]


def test_data_of_another_postgresql_is_refused_with_the_way_out(home):
    (home / "postgres").mkdir()
    (home / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EnvironmentFault, match="was made by PostgreSQL 16, installed is 18: dump it"):
        embedded.start(home / "postgres")


def test_a_set_database_url_wins_and_starts_nothing(home):
    settings = Settings(home=home, database_url="postgresql://somewhere/else")
    assert resolve_url(settings) == "postgresql://somewhere/else"
    assert list(home.iterdir()) == []
