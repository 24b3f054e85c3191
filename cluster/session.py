"""Connecting to Ray: the cluster a job runs on, or a local one started here and ended here."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
import ray.exceptions

from swiftbolt.errors import EnvironmentFault
from swiftbolt.local import OBJECT_STORE_BYTES, ONE_THREAD
from swiftbolt.settings import Settings


@contextmanager
def ray_session(settings: Settings, database_url: str) -> Iterator[None]:
    """Connect to the cluster in ``RAY_ADDRESS``, or start a local one, and leave it as it was found.

    A process that is connected already stays on that cluster.

    Raises:
        EnvironmentFault: there is no cluster to connect to, or none can be started.
    """
    if ray.is_initialized():
        yield
        return
    starts_here = "RAY_ADDRESS" not in os.environ
    # The same home and database as the driver's: a worker must never start a database of its own.
    worker_environment = {**ONE_THREAD, "SWIFTBOLT_HOME": str(settings.home), "DATABASE_URL": database_url}
    # A submitted job brings a runtime environment of its own; ours is added to it rather than refused.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    try:
        ray.init(
            # Otherwise Ray would join whatever cluster of anybody's it finds on this machine.
            address="local" if starts_here else None,
            include_dashboard=False if starts_here else None,
            object_store_memory=OBJECT_STORE_BYTES if starts_here else None,
            log_to_driver=False,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": worker_environment},
        )
    except (RuntimeError, ConnectionError, ValueError, ray.exceptions.RayError) as exc:
        where = "a local Ray did not start" if starts_here else f"no Ray answers at {os.environ['RAY_ADDRESS']}"
        raise EnvironmentFault(f"{where}: {exc}") from exc
    try:
        yield
    finally:
        ray.shutdown()
