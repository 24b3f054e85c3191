"""The services of one machine: a Ray head and the embedded PostgreSQL, started by us and ended by us, by id.

What was started is recorded in ``<home>/run/services.json`` with each process's start time, so that a process id
which the system gave to somebody else in the meantime is never signalled.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil

from swiftbolt.errors import EnvironmentFault
from swiftbolt.settings import Settings

# Every process we start carries this variable, and so do its children: how `stop` finds orphans.
MARK = "SWIFTBOLT_SERVICES"
HEAD_START_SECONDS = 90.0
STOP_SECONDS = 5.0
OBJECT_STORE_BYTES = 300 * 1024**2
# Environment of every worker and replica: numeric libraries take one thread unless a task asks for more.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Services:
    """What runs, and where."""

    head_pid: int
    head_started: float
    ray_address: str
    dashboard_url: str
    service_url: str
    database: str

    @property
    def is_alive(self) -> bool:
        """True while the recorded Ray head is the process it was."""
        return _same_process(self.head_pid, self.head_started) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ports:
    """Loopback ports of the local services."""

    service: int = 8000
    dashboard: int = 8265
    ray: int = 6379


def read_services(settings: Settings) -> Services | None:
    """The recorded services, or None."""
    path = _record(settings)
    try:
        return Services(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError):
        raise EnvironmentFault(f"{path} is damaged: delete it after checking that no Ray of yours runs") from None


def require_free(ports: Ports) -> None:
    """Refuse to start where something else listens already.

    Raises:
        EnvironmentFault: a port is taken.
    """
    for purpose, port in asdict(ports).items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                option = {"service": "--port", "dashboard": "--dashboard-port", "ray": "--ray-port"}[purpose]
                raise EnvironmentFault(
                    f"port {port} ({purpose}) is taken: stop what listens there, or choose another with {option}"
                ) from None


def make_run_directory(settings: Settings) -> None:
    """Make the folder of process ids, tokens and logs, the user's alone.

    Raises:
        EnvironmentFault: it cannot be made, or Ray could not work with its name.
    """
    if not str(settings.home).isascii():
        raise EnvironmentFault(f"Ray cannot work in {settings.home}: set SWIFTBOLT_HOME to a plain ASCII path")
    try:
        settings.run_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise EnvironmentFault(
            f"{settings.run_directory} cannot be made ({exc.strerror}): set SWIFTBOLT_HOME to a folder of yours"
        ) from exc


def child_environment(settings: Settings, database_url: str) -> dict[str, str]:
    """Environment of everything we start: our home, our database, Ray with token authentication."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    return {
        **environment,
        # "python" and "ray" must be this interpreter's, also where the virtual environment is not activated.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "SWIFTBOLT_HOME": str(settings.home),
        "DATABASE_URL": database_url,
        MARK: str(settings.home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token_file(settings)),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(_ray_directory(settings)),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONUNBUFFERED": "1",
    }


def start_services(settings: Settings, ports: Ports, database_url: str, database: str) -> Services:
    """Start a Ray head with dashboard and token authentication, all on loopback, and record it.

    Args:
        database: where the database is, for people; never with a password.

    Raises:
        EnvironmentFault: it did not come up; nothing is left running.
    """
    make_run_directory(settings)
    _make_ray_directory(settings)
    log = settings.run_directory / "ray-head.log"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        f"--port={ports.ray}",
        "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={ports.dashboard}",
        f"--dashboard-agent-listen-port={_free_port()}",
        f"--dashboard-agent-grpc-port={_free_port()}",
        f"--metrics-export-port={_free_port()}",
        f"--object-store-memory={OBJECT_STORE_BYTES}",
        "--disable-usage-stats",
        f"--temp-dir={_ray_directory(settings)}",
    ]
    with log.open("wb") as output:
        head = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(settings, database_url),
            start_new_session=True,
        )
    services = Services(
        head_pid=head.pid,
        head_started=psutil.Process(head.pid).create_time(),
        ray_address=f"127.0.0.1:{ports.ray}",
        dashboard_url=f"http://127.0.0.1:{ports.dashboard}",
        service_url=f"http://127.0.0.1:{ports.service}",
        database=database,
    )
    _record(settings).write_text(json.dumps(asdict(services), indent=1), encoding="utf-8")
    try:
        _wait_until_ready(services, settings, head, log)
    except BaseException:  # also an interrupt: what was started here is ended here
        stop_services(settings)
        raise
    return services


def stop_services(settings: Settings) -> int:
    """End the recorded Ray head, everything it started and every orphan of it. Returns how many processes ended."""
    services = read_services(settings)
    ended: dict[int, psutil.Process] = {}
    if services is not None:
        head = _same_process(services.head_pid, services.head_started)
        if head is not None:
            ended = {process.pid: process for process in [head, *head.children(recursive=True)]}
            head.terminate()  # ray start --block ends its own children in order
            psutil.wait_procs([head], timeout=STOP_SECONDS)
    ended |= {process.pid: process for process in _marked(settings)}
    # Nothing of theirs is worth a longer wait: what must last lies in the database and in finished files.
    for end in (psutil.Process.terminate, psutil.Process.kill):
        _, alive = psutil.wait_procs(list(ended.values()), timeout=1.0)
        for process in alive:
            _signal(process, end)
    psutil.wait_procs(list(ended.values()), timeout=STOP_SECONDS)
    if services is not None:
        _record(settings).unlink(missing_ok=True)
    logs = _ray_directory(settings)
    if settings.home not in logs.parents:
        shutil.rmtree(logs.parent, ignore_errors=True)
    return len(ended)


def use_token_authentication(settings: Settings) -> None:
    """Make a Ray that this process starts use token authentication; call it before the first import of ray.

    Ray reads the mode when it is imported, and without one it goes by what earlier programs left in the user's home.
    A process that was told which Ray to use, or how, is left alone.
    """
    if "RAY_ADDRESS" not in os.environ and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(_token_file(settings))


def _wait_until_ready(services: Services, settings: Settings, head: subprocess.Popen[bytes], log: Path) -> None:
    headers = {"Authorization": f"Bearer {_token_file(settings).read_text(encoding='utf-8').strip()}"}
    deadline = time.monotonic() + HEAD_START_SECONDS
    while time.monotonic() < deadline:
        if head.poll() is not None:
            tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise EnvironmentFault(f"Ray did not start ({' '.join(tail)}); see {log}")
        try:
            if httpx.get(f"{services.dashboard_url}/api/jobs/", headers=headers, timeout=2.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise EnvironmentFault(f"Ray did not answer within {HEAD_START_SECONDS:.0f} s; see {log}")


def _token_file(settings: Settings) -> Path:
    """The token of this home's Ray, made on first use, readable by its owner alone."""
    path = settings.run_directory / "ray_token"
    if not path.exists():
        make_run_directory(settings)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _ray_directory(settings: Settings) -> Path:
    """Ray's logs and sockets. Paths of sockets may be 107 bytes long at most, so it is not under a long home."""
    inside = settings.run_directory / "ray"
    if len(str(inside)) <= 40:
        return inside
    digest = hashlib.sha256(str(settings.home).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir(), f"swiftbolt-{os.getuid()}-{digest}", "ray")


def _make_ray_directory(settings: Settings) -> None:
    """Make the folder above Ray's own, ours alone: the logs in it hold the environment of jobs.

    Raises:
        EnvironmentFault: it belongs to somebody else.
    """
    parent = _ray_directory(settings).parent
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parent.stat().st_uid != os.getuid():
        raise EnvironmentFault(f"{parent} belongs to another user: remove it, or set SWIFTBOLT_HOME to another folder")


def _record(settings: Settings) -> Path:
    return settings.run_directory / "services.json"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _same_process(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        alive = abs(process.create_time() - started) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if alive else None


def _marked(settings: Settings) -> list[psutil.Process]:
    """Processes that carry our mark for this home, or write to its Ray's logs, except the caller and its parents."""
    mine = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    logs = f"{_ray_directory(settings)}{os.sep}"
    found = []
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        try:
            # Ray's workers rename themselves over their environment; their open logs still tell whose they are.
            marked = process.environ().get(MARK) == str(settings.home)
            if marked or any(file.path.startswith(logs) for file in process.open_files()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def _signal(process: psutil.Process, end: Callable[[psutil.Process], None]) -> None:
    try:
        end(process)
    except psutil.NoSuchProcess:
        return
