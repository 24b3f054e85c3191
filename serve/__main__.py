"""Start the graph: ``python -m serve``. Connects to the cluster in ``RAY_ADDRESS``, or starts a local one."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import yaml
from pydantic import ValidationError

from swiftbolt.config import parse_config
from swiftbolt.errors import ConfigError, EnvironmentFault, ServingError, SwiftBoltError
from swiftbolt.exit_codes import INTERRUPTED, exit_code, one_line
from swiftbolt.local import OBJECT_STORE_BYTES, use_token_authentication
from swiftbolt.settings import Settings

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.schema import ServeDeploySchema

IMPORT_PATH = "serve.app:build_app"
DEFAULT_CONFIG = Path("configs/serve/local.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line; exit codes as the ``swiftbolt`` command gives them."""
    parser = argparse.ArgumentParser(prog="python -m serve", description="Answer over HTTP with the promoted release.")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help=f"default: {DEFAULT_CONFIG}")
    parser.add_argument("--host", help="Address to listen on; default: that of the configuration.")
    parser.add_argument("--port", type=int, help="Port to listen on; default: that of the configuration.")
    parser.add_argument("--detach", action="store_true", help="Leave it running on the cluster in RAY_ADDRESS.")
    parsed = parser.parse_args(arguments)
    try:
        start(parsed.config, parsed.host, parsed.port, detach=parsed.detach)
    except SwiftBoltError as exc:
        print(one_line(exc), file=sys.stderr)
        return exit_code(exc)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def start(config: Path, host: str | None, port: int | None, *, detach: bool) -> None:
    """Run the graph until SIGINT or SIGTERM ends it or, detached, leave it on the cluster.

    Raises:
        ConfigError: the configuration is wrong.
        StoreError: the database cannot be reached or migrated.
        EnvironmentFault: the port is taken, Ray cannot be reached, Serve runs there already, or there is no cluster
            to leave the graph on.
        ServingError: the graph did not come up.
    """
    if detach and "RAY_ADDRESS" not in os.environ:
        raise EnvironmentFault("--detach needs a cluster to stay on: start one with ray start --head, set RAY_ADDRESS")
    use_token_authentication(Settings())
    # Imported only now: Ray reads its environment when it is imported.
    from serve.app import AppArgs, build_app

    deploy = read_deploy(config)
    application = deploy.applications[0]
    args = parse_config(application.args, AppArgs, f"{config}: applications.0.args")
    place = Place(host or deploy.http_options.host, deploy.http_options.port if port is None else port)
    place.require_free()
    app = build_app(args)
    with _ray():
        # After Ray, which handles them its own way: both signals end us as Ctrl-C does.
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, signal.default_int_handler)
        _run(app, deploy, place, detach=detach)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For a program on this machine."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"

    def require_free(self) -> None:
        """Refuse to start where something else listens already.

        Raises:
            EnvironmentFault: the port is taken, or the address is not this machine's.
        """
        if not 0 < self.port < 2**16:
            raise EnvironmentFault(f"there is no port {self.port}: choose one from 1 to 65535 with --port")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as exc:
                raise EnvironmentFault(
                    f"cannot listen on {self.host}:{self.port} ({exc.strerror}): "
                    "stop what listens there, or choose another with --port"
                ) from None

    def require_answer(self) -> None:
        """Make sure that what was started answers here.

        Raises:
            ServingError: it does not.
        """
        try:
            httpx.get(f"{self.url}/health", timeout=10.0).raise_for_status()
        except httpx.HTTPError as exc:
            raise ServingError(f"the graph runs, but nothing answers at {self.url} ({exc})") from exc


def read_deploy(path: Path) -> ServeDeploySchema:
    """Read a Serve configuration that holds our application and no other.

    Raises:
        ConfigError: the file or a key is wrong.
    """
    from ray.serve.schema import ServeDeploySchema

    try:
        deploy = ServeDeploySchema.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise ConfigError(str(path), "", f"cannot be read ({exc.strerror})") from None
    except yaml.YAMLError as exc:
        raise ConfigError(str(path), "", f"is not YAML ({exc})") from None
    except ValidationError as exc:
        fault = exc.errors(include_url=False)[0]
        raise ConfigError(str(path), ".".join(map(str, fault["loc"])), str(fault["msg"])) from None
    if [application.import_path for application in deploy.applications] != [IMPORT_PATH]:
        raise ConfigError(str(path), "applications", f"must be one, with import_path {IMPORT_PATH}")
    return deploy


def _run(app: Application, deploy: ServeDeploySchema, place: Place, *, detach: bool) -> None:
    from ray import serve

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    if serve.status().proxies:
        raise EnvironmentFault("Serve already runs on this cluster: end it first (make stop, or serve shutdown)")
    print("starting the graph ...", flush=True)
    application = deploy.applications[0]
    stays = False
    try:
        serve.start(
            proxy_location=deploy.proxy_location,
            http_options={**deploy.http_options.model_dump(exclude_unset=True), "host": place.host, "port": place.port},
            logging_config=deploy.logging_config,
        )
        serve.run(
            app,
            name=application.name,
            route_prefix=application.route_prefix,
            logging_config=application.logging_config or deploy.logging_config,
        )
        place.require_answer()
        print(f"serving at {place.url}, documentation at {place.url}/docs", flush=True)
        stays = detach
        while not detach:
            time.sleep(1.0)  # wakes, as a signal may have been given to another thread
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr, flush=True)
    except RuntimeError as exc:  # what Serve raises when replicas do not come up
        raise ServingError(f"the graph did not start: {exc}") from exc
    finally:
        if not stays:
            serve.shutdown()  # type: ignore[no-untyped-call]


@contextmanager
def _ray() -> Iterator[None]:
    """Connect to the cluster in RAY_ADDRESS, or start a local one and end it afterwards."""
    import ray

    _require_cluster()
    try:
        if "RAY_ADDRESS" in os.environ:
            ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as exc:
        raise EnvironmentFault(f"Ray cannot be reached or started: {exc}") from exc
    try:
        yield
    finally:
        ray.shutdown()


def _require_cluster() -> None:
    """Refuse a RAY_ADDRESS where nothing listens; Ray itself would try for minutes."""
    host, colon, port = os.environ.get("RAY_ADDRESS", "auto").rpartition(":")
    if not colon or not port.isdigit() or "/" in host:  # "auto", or the address of Ray's own client
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError as exc:
        raise EnvironmentFault(
            f"no Ray cluster at RAY_ADDRESS {host}:{port} ({exc.strerror or exc}): start it, or unset RAY_ADDRESS"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
