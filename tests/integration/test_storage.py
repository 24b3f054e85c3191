"""A run's folder on disk and in S3: files are there whole or not at all, and faults name the place and the remedy."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.s3 import KEY, SECRET, s3_bucket

from cluster.storage import RunStorage
from swiftbolt.errors import EnvironmentFault, NotFound


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_bucket() as root:
        yield root


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> RunStorage:
    return RunStorage.of(tmp_path if request.param == "folder" else request.getfixturevalue("s3"), tmp_path.name)


def test_what_was_written_is_read_and_written_over(storage: RunStorage) -> None:
    storage.write("units/1.zip", b"first")
    storage.write("units/1.zip", b"second")
    assert storage.read("units/1.zip") == b"second"


def test_names_are_those_below_a_folder_in_order(storage: RunStorage) -> None:
    for name in ("units/b", "units/a", "units.json", "plan"):
        storage.write(name, b"x")
    assert storage.names("units") == ["units/a", "units/b"]
    assert storage.names() == ["plan", "units.json", "units/a", "units/b"]
    assert storage.names("nothing/here") == []


def test_a_file_that_is_not_there_is_not_found(storage: RunStorage) -> None:
    assert not storage.exists("units/1.zip")
    with pytest.raises(NotFound, match=r"holds no units/1\.zip"):
        storage.read("units/1.zip")


def test_a_folder_is_removed_and_one_that_is_not_there_is_no_fault(storage: RunStorage) -> None:
    storage.write("units/a", b"x")
    storage.write("plan", b"x")
    storage.remove("units")
    assert storage.names() == ["plan"]
    storage.remove()
    storage.remove()
    assert storage.names() == []


def test_another_process_sees_the_same_files(storage: RunStorage) -> None:
    storage.write("a", b"x")
    assert pickle.loads(pickle.dumps(storage)).read("a") == b"x"


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    storage = RunStorage.of(tmp_path, "run")
    contents = [bytes([digit]) * 2_000_000 for digit in range(3)]
    storage.write("a", contents[0])
    stop = threading.Event()

    def write_on() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            storage.write("a", contents[turn % 3])

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        seen = {storage.read("a") for _ in range(100)}
    finally:
        stop.set()
        writer.join()
    assert seen <= set(contents)
    assert storage.names() == ["a"]


FULL = """
import resource, signal, sys
from cluster.storage import RunStorage
from swiftbolt.errors import EnvironmentFault
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
storage = RunStorage.of(sys.argv[1], "run")
storage.write("small", b"x" * 10_000)
try:
    storage.write("large", b"x" * 1_000_000)
except EnvironmentFault as fault:
    sys.stdout.write(str(fault))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of file sizes stands for a full disk")
def test_a_disk_without_room_is_a_fault_that_names_the_folder_and_leaves_no_half_file(tmp_path: Path) -> None:
    told = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert told.stdout.startswith(f"{tmp_path}/run cannot be written (")
    assert "File too large" in told.stdout
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["small"]


def test_a_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(b"a file where the folder should be")
    with pytest.raises(EnvironmentFault, match="cannot be written"):
        RunStorage.of(tmp_path, "run").write("a", b"x")


def test_a_bucket_that_is_not_there_is_a_fault_without_the_credentials(s3: str) -> None:
    storage = RunStorage.of(s3.replace("@bucket", "@elsewhere"), "run")
    with pytest.raises(EnvironmentFault, match="s3://elsewhere/runs/run cannot be written") as caught:
        storage.write("a", b"x")
    for shown in (str(caught.value), repr(storage), str(storage)):
        assert KEY not in shown
        assert SECRET not in shown


def test_a_server_that_is_not_there_is_a_fault_without_the_credentials() -> None:
    root = f"s3://{KEY}:{SECRET}@bucket/runs?scheme=http&endpoint_override=127.0.0.1%3A9&region=us-east-1"
    with pytest.raises(EnvironmentFault, match="s3://bucket/runs/run cannot be read") as caught:
        RunStorage.of(root, "run").exists("a")
    assert SECRET not in str(caught.value)


def test_an_address_that_cannot_be_read_is_a_fault_without_the_credentials() -> None:
    with pytest.raises(EnvironmentFault, match="is no address of S3") as caught:
        RunStorage.of(f"s3://{KEY}:{SECRET}@bucket/[runs]", "run").exists("a")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_folder_must_be_absolute() -> None:
    with pytest.raises(ValueError, match="storage_path is neither an absolute folder nor s3://bucket/prefix"):
        RunStorage.of("runs", "run")
