"""The doctor's findings, each on a machine with that one fault."""

from __future__ import annotations

import importlib.metadata
import json
import socket
from types import SimpleNamespace

import pytest

from swiftbolt import cli, doctor, local
from swiftbolt.doctor import Check
from swiftbolt.providers import sample
from swiftbolt.settings import Settings


@pytest.mark.parametrize(("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False)])
def test_python_must_be_one_that_every_dependency_supports(version, ok):
    found = doctor.check_python(version)
    assert found.ok is ok
    assert bool(found.remedy) is not ok


def test_a_missing_ray_is_found_without_importing_it():
    found = doctor.check_ray("ray_that_is_not_there")
    assert (found.ok, found.found) == (False, "ray_that_is_not_there is not installed")
    assert "pip install" in found.remedy


@pytest.mark.parametrize(("version", "ok"), [("2.9.3", False), ("2.60.0", True), ("3.0.0rc1", True)])
def test_an_old_ray_is_found_by_its_numbers_not_its_letters(monkeypatch, version, ok):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert doctor.check_ray().ok is ok


def test_an_unreachable_database_is_named_without_its_password(tmp_path):
    settings = Settings(home=tmp_path, database_url="postgresql://me:hunter2@127.0.0.1:1/nothing")
    found = doctor.check_database(settings)
    assert not found.ok
    assert "127.0.0.1:1" in found.remedy
    assert "hunter2" not in found.line()


def test_a_home_that_cannot_hold_a_database_is_found(tmp_path):
    (tmp_path / "file").write_text("")
    found = doctor.check_database(Settings(home=tmp_path / "file" / "home", database_url=None))
    assert not found.ok
    assert str(tmp_path / "file") in found.line()
    assert "SWIFTBOLT_HOME" in found.remedy


def test_the_disk_that_counts_is_the_one_the_home_will_be_on(tmp_path):
    home = tmp_path / "not" / "there" / "yet"
    assert doctor.check_disk(home, needed_bytes=1).ok
    full = doctor.check_disk(home, needed_bytes=2**70)
    assert not full.ok
    assert "SWIFTBOLT_HOME" in full.remedy
    assert not home.exists()


def test_a_damaged_sample_is_found(monkeypatch, tmp_path):
    assert doctor.check_sample().ok
    damaged = tmp_path / "bars.parquet"
    damaged.write_bytes(sample.SAMPLE_PATH.read_bytes()[:1000])
    monkeypatch.setattr(sample, "SAMPLE_PATH", damaged)
    found = doctor.check_sample()
    assert (found.ok, found.remedy) == (False, "the file is damaged: install SwiftBolt again")


def test_a_port_somebody_listens_on_is_named_with_its_purpose(tmp_path):
    settings = Settings(home=tmp_path)
    with socket.socket() as listener, socket.socket() as other:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        other.bind(("127.0.0.1", 0))
        taken, free = listener.getsockname()[1], other.getsockname()[1]
        other.close()
        found = doctor.check_ports({"service": taken, "ray": free}, settings)
        assert (found.ok, found.found) == (False, f"{taken} (service) is taken")
        assert "stop what listens there" in found.remedy
    assert doctor.check_ports({"service": taken, "ray": free}, settings).ok


def test_ports_our_own_services_listen_on_are_as_they_should_be(monkeypatch, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setattr(local, "read_services", lambda settings: SimpleNamespace(is_alive=True))
        found = doctor.check_ports({"service": listener.getsockname()[1]}, Settings(home=tmp_path))
    assert found.ok
    assert "by our own services" in found.found


@pytest.mark.parametrize("ok", [True, False])
def test_the_verb_exits_with_1_when_any_check_fails(monkeypatch, capsys, ok):
    checks = [Check(name="ray", ok=True, found="2.60.0"), Check(name="ports", ok=ok, found="8000", remedy="stop it")]
    monkeypatch.setattr(doctor, "examine", lambda settings: iter(checks))
    assert cli.run(["doctor"]) == (0 if ok else 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["ok    ray       2.60.0", f"{'ok  ' if ok else 'FAIL'}  ports     8000: stop it"]
    assert cli.run(["doctor", "--json"]) == (0 if ok else 1)
    assert [check["ok"] for check in json.loads(capsys.readouterr().out)] == [True, ok]
