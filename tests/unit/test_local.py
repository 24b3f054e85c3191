"""Services of one machine: ports, records and the ending of processes by id. The real Ray head is in acceptance."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from swiftbolt.errors import EnvironmentFault
from swiftbolt.local import (
    MARK,
    Ports,
    Services,
    child_environment,
    make_run_directory,
    read_services,
    require_free,
    stop_services,
    use_token_authentication,
)
from swiftbolt.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SWIFTBOLT_HOME", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    found = Settings()
    found.run_directory.mkdir(parents=True)
    return found


def record(settings: Settings, process: psutil.Process) -> None:
    services = Services(
        head_pid=process.pid,
        head_started=process.create_time(),
        ray_address="127.0.0.1:1",
        dashboard_url="http://127.0.0.1:2",
        service_url="http://127.0.0.1:3",
        database="here",
    )
    (settings.run_directory / "services.json").write_text(json.dumps(asdict(services)))


Start = Callable[..., psutil.Process]


@pytest.fixture
def sleeper() -> Iterator[Start]:
    """Starts processes that sleep, and ends those that a test left."""
    started: list[subprocess.Popen[bytes]] = []

    def start(settings: Settings, code: str = "import time; time.sleep(60)", marked: bool = True) -> psutil.Process:
        environment = child_environment(settings, "postgresql://nowhere")
        if not marked:
            del environment[MARK]
        started.append(subprocess.Popen([sys.executable, "-c", code], env=environment))
        return psutil.Process(started[-1].pid)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_taken_port_is_named_with_the_option_that_avoids_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EnvironmentFault, match=rf"port {port} \(dashboard\) is taken.*--dashboard-port"):
            require_free(Ports(service=_free(), dashboard=port, ray=_free()))
    require_free(Ports(service=_free(), dashboard=_free(), ray=_free()))


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_stopping_ends_the_recorded_process_and_its_children(settings: Settings, sleeper: Start) -> None:
    child_code = "import time; time.sleep(60)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child_code!r}]); time.sleep(60)"
    head = sleeper(settings, code, marked=False)
    record(settings, head)
    for _ in range(100):
        if head.children():
            break
        time.sleep(0.05)
    child = head.children()[0]
    assert stop_services(settings) == 2
    assert not _runs(head)
    assert not _runs(child)
    assert read_services(settings) is None


def test_stopping_ends_orphans_that_carry_the_mark_of_this_home_and_no_other(
    settings: Settings, tmp_path: Path, sleeper: Start
) -> None:
    ours = sleeper(settings)
    theirs = sleeper(settings.model_copy(update={"home": tmp_path / "other"}))
    assert stop_services(settings) == 1
    assert not _runs(ours)
    assert _runs(theirs)


def test_a_process_id_that_now_belongs_to_somebody_else_is_left_alone(settings: Settings, sleeper: Start) -> None:
    stranger = sleeper(settings, marked=False)
    record(settings, stranger)
    path = settings.run_directory / "services.json"
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "head_started": data["head_started"] - 100}))
    services = read_services(settings)
    assert services is not None
    assert not services.is_alive
    assert stop_services(settings) == 0
    assert _runs(stranger)


def test_stopping_where_nothing_runs_is_no_fault(settings: Settings) -> None:
    assert stop_services(settings) == 0


def test_a_damaged_record_says_what_to_do(settings: Settings) -> None:
    (settings.run_directory / "services.json").write_text("{")
    with pytest.raises(EnvironmentFault, match="is damaged"):
        read_services(settings)


def test_the_token_is_made_once_and_readable_by_its_owner_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    first = child_environment(settings, "postgresql://nowhere")
    token = Path(first["RAY_AUTH_TOKEN_PATH"])
    text = token.read_text()
    assert len(text) == 64
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert child_environment(settings, "x")["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert token.read_text() == text
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    use_token_authentication(settings)
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def _runs(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("home", "complaint"), [("file", "cannot be made"), ("höme", "plain ASCII")])
def test_a_home_that_cannot_be_used_is_one_clear_error(
    tmp_path: Path, settings: Settings, home: str, complaint: str
) -> None:
    (tmp_path / "file").touch()
    unusable = settings.model_copy(update={"home": tmp_path / home})
    with pytest.raises(EnvironmentFault, match=complaint):
        make_run_directory(unusable)
    assert stop_services(unusable) == 0
