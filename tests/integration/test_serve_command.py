"""``python -m serve`` as a person starts it: what is refused at once, with one line and an exit status."""

from __future__ import annotations

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LOCAL = PROJECT / "configs" / "serve" / "local.yaml"


@contextmanager
def port() -> Iterator[str]:
    """A port that something listens on for the time of the block, and nothing afterwards."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield str(listener.getsockname()[1])


def run(tmp_path: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and what was said."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "serve", *arguments],
        cwd=PROJECT,
        env={**inherited, "SWIFTBOLT_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def assert_one_line(said: str, *words: str) -> None:
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    for word in words:
        assert word in said


def test_a_port_that_is_taken_is_said_in_one_line_and_starts_nothing(tmp_path):
    with port() as taken:
        status, said = run(tmp_path, "--port", taken)
    assert status == 4
    assert_one_line(said, taken, "--port")
    assert not (tmp_path / "postgres").exists()


def test_a_database_that_cannot_be_reached_is_said_in_one_line_without_its_password(tmp_path):
    url = "postgresql://user:hunter2@127.0.0.1:1/nowhere"
    with port() as free:
        pass
    status, said = run(tmp_path, "--port", free, DATABASE_URL=url)
    assert status == 3
    assert_one_line(said, "127.0.0.1:1", "DATABASE_URL")
    assert "hunter2" not in said


def test_a_misspelt_key_is_named_with_its_file(tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(LOCAL.read_text().replace("deadline_s", "dedline_s"))
    status, said = run(tmp_path, "--config", str(config))
    assert status == 2
    assert_one_line(said, str(config), "dedline_s", "did you mean 'deadline_s'?")


def test_the_committed_configuration_fits_rays_schema_and_ours():
    from ray.serve.schema import ServeDeploySchema

    from serve.__main__ import read_deploy
    from serve.app import AppArgs

    deploy = read_deploy(LOCAL)
    assert isinstance(deploy, ServeDeploySchema)
    assert deploy.http_options.host == "127.0.0.1"
    assert AppArgs.model_validate(deploy.applications[0].args) == AppArgs()


def test_ray_can_see_the_type_of_the_builders_argument():
    """Ray builds it from YAML only if the annotation is a class, not a string."""
    from serve.app import AppArgs, build_app

    assert inspect.signature(build_app).parameters["args"].annotation is AppArgs
