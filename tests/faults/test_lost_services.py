"""A retrain loses a node, its database or its disk: it goes on without, or says so and goes on when told to."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from psycopg.conninfo import conninfo_to_dict
from support.database import temporary_server
from support.retrain_faults import FEW, Nodes, Site, nodes_of

from swiftbolt.store import embedded

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

REFUSED = 4


def test_a_retrain_on_three_nodes_gives_what_one_gives(undisturbed: str, many: Site) -> None:
    with nodes_of([1, 1, 1]) as three:
        assert many.retrain(three) == undisturbed
    many.require_whole(undisturbed)


@pytest.mark.parametrize("moment", ["arima/S10/0", "lstm_00"])
def test_a_lost_node_costs_what_was_done_there(undisturbed: str, many: Site, moment: str) -> None:
    with nodes_of([0, 1, 1]) as three:  # no work on the node of the driver
        with many.held_at(three, moment) as driver:
            before = many.done()
            three.faults.replan()
            held = three.faults.held()
            assert held is not None
            three.lose_node_of(held)
            driver.succeed()
        many.require_whole(undisturbed)
        many.require_kept(before, three.faults.begun())


def test_a_database_that_is_killed_and_comes_back_loses_no_row(
    nodes: Nodes, undisturbed_few: str, tmp_path: Path
) -> None:
    with temporary_server() as url:
        site = Site.of(tmp_path, url, FEW)
        with site.held_at(nodes, "arima/S02/0") as driver:
            before = site.done()
            data = Path(str(conninfo_to_dict(url)["host"]))
            kill_server(data)
            nodes.faults.let_go()
            driver.until(lambda: "the store is away" in driver.text())
            assert embedded.start(data).url == url
            driver.succeed()
        site.require_whole(undisturbed_few)
        site.require_kept(before, nodes.faults.begun())


def test_a_full_disk_is_said_in_one_line_and_with_room_again_the_same_command_goes_on(
    nodes: Nodes, undisturbed_few: str, few: Site, small_disk: Path
) -> None:
    storage = ["--set", f"resources.storage_path={small_disk}"]
    with few.held_at(nodes, "arima/S02/0", *storage) as driver:
        fill(small_disk / "ballast")
        nodes.faults.let_go()
        assert driver.end() == REFUSED
    last = driver.text().splitlines()[-1]
    assert last.startswith(f"error: {small_disk}/")
    assert "No space left on device" in last
    assert last.endswith("mend that and run the same command again")
    before = few.done()
    (small_disk / "ballast").unlink()
    nodes.faults.replan()
    assert few.retrain(nodes, *storage) == undisturbed_few
    few.require_whole(undisturbed_few)
    few.require_kept(before, nodes.faults.begun())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(path: Path) -> None:
    """Leave no byte free."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def kill_server(data: Path) -> None:
    """Kill the database with all its processes."""
    postmaster = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
    for process in [postmaster, *postmaster.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([postmaster])
