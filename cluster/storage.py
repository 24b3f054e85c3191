"""A run's own folder: whole files on a disk that all nodes see, or objects in S3."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow import ArrowException, ArrowInvalid, fs

from swiftbolt.errors import EnvironmentFault, NotFound

_HALF = ".half-"  # begins the name of a file in writing


class RunStorage:
    """Files of one run, by names like ``units/1.json``; it travels between processes, and opens nothing until asked.

    A file is there whole or not at all. Every method raises ``EnvironmentFault`` where the place cannot be reached,
    read or written; its message names the place without credentials.

    Attributes:
        uri: of the run's folder, as Ray's ``storage_path`` takes it.
    """

    def __init__(self, root: str, run: str) -> None:
        self._root, self._run = root, run
        self._opened: tuple[fs.FileSystem, str] | None = None

    @classmethod
    def of(cls, root: str | Path, run: str) -> RunStorage:
        """The folder ``run`` in ``root``, an absolute folder or ``s3://bucket/prefix``; nothing is made yet.

        Raises:
            ValueError: ``root`` is neither.
        """
        text = str(root)
        if not text.startswith("s3://") and not Path(text).is_absolute():
            raise ValueError("storage_path is neither an absolute folder nor s3://bucket/prefix")  # may hold a key
        return cls(text, run)

    @property
    def uri(self) -> str:
        """See the class."""
        base, question, options = self._root.partition("?")
        return f"{base.rstrip('/')}/{self._run}{question}{options}"

    def __repr__(self) -> str:
        return f"RunStorage({self.shown!r})"

    def __reduce__(self) -> tuple[type[RunStorage], tuple[str, str]]:
        return RunStorage, (self._root, self._run)

    @property
    def shown(self) -> str:
        """``uri`` as people may see it."""
        if not self._root.startswith("s3://"):
            return self.uri
        parts = urlsplit(self.uri)
        return f"s3://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file."""
        with self._told("written"):
            system, folder = self._open()
            path = f"{folder}/{name}"
            if isinstance(system, fs.S3FileSystem):  # one object, which is there once all of it is
                with system.open_output_stream(path) as stream:
                    stream.write(content)
                return
            parent, _, file = path.rpartition("/")
            system.create_dir(parent, recursive=True)
            half = f"{parent}/{_HALF}{secrets.token_hex(4)}-{file}"
            try:
                with system.open_output_stream(half) as stream:
                    stream.write(content)
                system.move(half, path)
            except (OSError, ArrowException):
                Path(half).unlink(missing_ok=True)
                raise

    def read(self, name: str) -> bytes:
        """What a file holds.

        Raises:
            NotFound: there is none.
        """
        with self._told("read"):
            system, folder = self._open()
            try:
                with system.open_input_file(f"{folder}/{name}") as stream:
                    content: bytes = stream.read()
                    return content
            except FileNotFoundError:
                raise NotFound(f"{self.shown} holds no {name}") from None

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        with self._told("read"):
            system, folder = self._open()
            found: fs.FileInfo = system.get_file_info(f"{folder}/{name}")
            return bool(found.type == fs.FileType.File)

    def names(self, prefix: str = "") -> list[str]:
        """The files in a folder and below it, as ``read`` takes them, in order."""
        with self._told("read"):
            system, folder = self._open()
            where = fs.FileSelector(f"{folder}/{prefix}".rstrip("/"), recursive=True, allow_not_found=True)
            files = [info.path for info in system.get_file_info(where) if info.type == fs.FileType.File]
            return sorted(path[len(folder) + 1 :] for path in files if not path.rpartition("/")[2].startswith(_HALF))

    def remove(self, prefix: str = "") -> None:
        """Remove a folder with all that is in it, by default the run's own; one that is not there is no fault."""
        with self._told("removed"):
            system, folder = self._open()
            path = f"{folder}/{prefix}".rstrip("/")
            if system.get_file_info(path).type == fs.FileType.Directory:
                system.delete_dir(path)

    def _open(self) -> tuple[fs.FileSystem, str]:
        if self._opened is None:
            if self._root.startswith("s3://"):
                try:
                    self._opened = fs.FileSystem.from_uri(self.uri)
                except ArrowInvalid:  # which quotes the address with its credentials
                    raise EnvironmentFault(f"{self.shown} is no address of S3: check resources.storage_path") from None
            else:
                self._opened = fs.LocalFileSystem(), self.uri
        return self._opened

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ArrowException) as exc:
            reason = getattr(exc, "strerror", None) or str(exc).splitlines()[0]
            raise EnvironmentFault(
                f"{self.shown} cannot be {done} ({reason}): mend that and run the same command again"
            ) from exc
