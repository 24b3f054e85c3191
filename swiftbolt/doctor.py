"""Is this machine ready? Each check says what it found and, where something is wrong, how to mend it.

Nothing is changed: a database that had to be started for the check is stopped again. Ray is looked up, not imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from swiftbolt.errors import DataError, EnvironmentFault, StoreError
from swiftbolt.settings import Settings

FIRST_PYTHON, AFTER_LAST_PYTHON = (3, 11), (3, 14)
FIRST_RAY = (2, 60)
DISK_NEEDED_BYTES = 2 * 1024**3  # a database of a few hundred symbols, artifacts and Ray's logs
SAMPLE_SYMBOLS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One finding.

    Attributes:
        found: what there is, in a few words.
        remedy: what to do about it; empty when all is well.
    """

    name: str
    ok: bool
    found: str
    remedy: str = ""

    def line(self) -> str:
        """The finding as one line for people."""
        mark = "ok  " if self.ok else "FAIL"
        return f"{mark}  {self.name:<9} {': '.join(part for part in (self.found, self.remedy) if part)}"


def examine(settings: Settings) -> Iterator[Check]:
    """Every check, each made when it is asked for."""
    from swiftbolt.local import Ports

    yield check_python(sys.version_info[:2])
    yield check_ray()
    yield check_database(settings)
    yield check_disk(settings.home)
    yield check_sample()
    yield check_ports(asdict(Ports()), settings)


def check_python(version: tuple[int, int]) -> Check:
    """Is the interpreter one that every dependency has wheels for?"""
    good = FIRST_PYTHON <= version < AFTER_LAST_PYTHON
    remedy = "make a virtual environment with Python 3.11, 3.12 or 3.13"
    return Check(name="python", ok=good, found=f"{version[0]}.{version[1]}", remedy="" if good else remedy)


def check_ray(package: str = "ray") -> Check:
    """Is Ray installed, and new enough?"""
    remedy = "pip install -e . in the project's folder"
    if importlib.util.find_spec(package) is None:
        return Check(name="ray", ok=False, found=f"{package} is not installed", remedy=remedy)
    found = importlib.metadata.version(package)
    major, minor = (int(part) for part in found.split(".")[:2])
    good = (major, minor) >= FIRST_RAY
    return Check(name="ray", ok=good, found=found, remedy="" if good else remedy)


def check_database(settings: Settings) -> Check:
    """Does the server of DATABASE_URL answer or, with none set, does the embedded PostgreSQL start?"""
    from swiftbolt.store import Store, embedded

    name = "database"
    try:
        if settings.database_url is not None:
            with Store.connect(settings.database_url.get_secret_value()):
                return Check(name=name, ok=True, found="the server of DATABASE_URL answers")
        was_running = embedded.running_url(settings.postgres_data) is not None
        try:
            with Store.connect(embedded.start(settings.postgres_data).url):
                return Check(name=name, ok=True, found=f"embedded PostgreSQL in {settings.postgres_data}")
        finally:
            if not was_running:
                embedded.stop(settings.postgres_data)
    except (StoreError, EnvironmentFault) as exc:  # their sentences name the remedy
        return Check(name=name, ok=False, found="not available", remedy=str(exc))
    except OSError as exc:
        return Check(name=name, ok=False, found=str(exc), remedy="set SWIFTBOLT_HOME to a folder of yours")


def check_disk(home: Path, needed_bytes: int = DISK_NEEDED_BYTES) -> Check:
    """Is there room where the data go?"""
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    good = free >= needed_bytes
    remedy = f"free {needed_bytes / 1024**3:.0f} GiB there or set SWIFTBOLT_HOME to another disk"
    found = f"{free / 1024**3:.1f} GiB free for {home}"
    return Check(name="disk", ok=good, found=found, remedy="" if good else remedy)


def check_sample() -> Check:
    """Can the bundled sample be read, whole?"""
    from swiftbolt.providers.sample import SampleProvider

    remedy = "the file is damaged: install SwiftBolt again"
    try:
        bars = SampleProvider().fetch().bars
    except DataError as exc:
        return Check(name="sample", ok=False, found=str(exc), remedy=remedy)
    found = f"{len(bars):,} bars of {len(bars.symbols)} symbols"
    good = len(bars.symbols) == SAMPLE_SYMBOLS
    return Check(name="sample", ok=good, found=found, remedy="" if good else remedy)


def check_ports(ports: Mapping[str, int], settings: Settings) -> Check:
    """Can our services listen, or do they already?

    Args:
        ports: port by purpose.
    """
    from swiftbolt.local import read_services

    taken = [f"{port} ({purpose})" for purpose, port in ports.items() if not _is_free(port)]
    if not taken:
        return Check(name="ports", ok=True, found=f"{', '.join(map(str, ports.values()))} are free")
    found = f"{', '.join(taken)} {'is' if len(taken) == 1 else 'are'} taken"
    try:
        services = read_services(settings)
    except EnvironmentFault as exc:  # a damaged record of what was started
        return Check(name="ports", ok=False, found=found, remedy=str(exc))
    if services is not None and services.is_alive:
        return Check(name="ports", ok=True, found=f"{found} by our own services (make stop ends them)")
    return Check(name="ports", ok=False, found=found, remedy="stop what listens there, or choose other ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A connection that has just ended does not make a port taken; a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
