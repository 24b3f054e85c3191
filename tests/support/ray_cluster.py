"""The one local Ray cluster that all Ray tests of a session share. Importing this imports no Ray."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMESPACE = "swiftbolt-tests"
CPUS = 2
OBJECT_STORE_BYTES = 200_000_000

_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # else a token in the home directory of whoever runs the tests would decide
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextmanager
def environ(values: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process and those it starts, for the time of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """Start Ray on this machine, yield its namespace, and end it with the test session."""
    import ray

    # Directly under the temporary directory: socket paths within may have at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    with environ(_ENVIRONMENT):
        try:
            ray.init(
                num_cpus=CPUS,
                num_gpus=0,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                namespace=NAMESPACE,
                log_to_driver=False,
                configure_logging=False,
                _temp_dir=str(folder),
            )
            yield NAMESPACE
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
