"""A fitted model on disk: its files, and a manifest that says what it was made from.

Nothing in an artifact is a pickle. Every file is checksummed in the manifest; an artifact whose bytes
changed, or that was made for another feature set, is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import swiftbolt
from swiftbolt.config import parse_config
from swiftbolt.errors import ArtifactMismatch, ConfigError
from swiftbolt.folds import Fold
from swiftbolt.models.base import Model
from swiftbolt.models.registry import config_class, model_class
from swiftbolt.panel import Panel

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What an artifact was made from, and the SHA-256 of each of its files."""

    model: str
    config: dict[str, Any]
    symbols: tuple[str, ...]
    feature_names: tuple[str, ...]
    spec_hash: str
    data_hash: str
    fold: dict[str, Any]
    seed: int
    code_version: str
    scores: dict[str, Any]
    notes: tuple[str, ...]
    files: dict[str, str]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, one form for one content."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Read ``to_json`` back.

        Raises:
            ArtifactMismatch: not a manifest.
        """
        try:
            data = json.loads(text)
            values = {field.name: data[field.name] for field in fields(cls)}
        except (ValueError, KeyError, TypeError) as exc:
            raise ArtifactMismatch(f"{where}: is not a manifest ({exc!r})") from exc
        for name in ("symbols", "feature_names", "notes"):
            values[name] = tuple(values[name])
        return cls(**values)


def write_artifact(
    directory: Path,
    name: str,
    config: Mapping[str, Any],
    files: Mapping[str, bytes],
    *,
    panel: Panel,
    fold: Fold,
    seed: int,
    scores: Mapping[str, Any],
    notes: tuple[str, ...],
) -> Manifest:
    """Write a model's ``files`` and their manifest into ``directory``, which must not exist yet."""
    directory.mkdir(parents=True)
    for file, content in sorted(files.items()):
        (directory / file).write_bytes(content)
    manifest = Manifest(
        model=name,
        config=dict(config),
        symbols=panel.symbols,
        feature_names=panel.feature_names,
        spec_hash=panel.spec_hash,
        data_hash=panel.data_hash,
        fold=fold.to_json(),
        seed=seed,
        code_version=code_version(),
        scores=dict(scores),
        notes=notes,
        files={file: hashlib.sha256(content).hexdigest() for file, content in sorted(files.items())},
    )
    (directory / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def read_manifest(directory: Path) -> Manifest:
    """The manifest alone.

    Raises:
        ArtifactMismatch: there is none, or it cannot be read.
    """
    path = directory / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ArtifactMismatch(f"{path}: cannot be read ({exc.strerror})") from exc
    return Manifest.from_json(text, str(path))


def read_artifact(directory: Path, *, spec_hash: str) -> tuple[Model, Manifest]:
    """Load a model for features of ``spec_hash``.

    Raises:
        ArtifactMismatch: bytes differ from the manifest, the features differ, or the model cannot be rebuilt.
    """
    manifest = read_manifest(directory)
    if manifest.spec_hash != spec_hash:
        raise ArtifactMismatch(
            f"{directory}: made for feature set {manifest.spec_hash[:12]}, this code makes {spec_hash[:12]}; retrain"
        )
    files = {}
    for file, expected in manifest.files.items():
        try:
            content = (directory / file).read_bytes()
        except OSError as exc:
            raise ArtifactMismatch(f"{directory / file}: cannot be read ({exc.strerror})") from exc
        if hashlib.sha256(content).hexdigest() != expected:
            raise ArtifactMismatch(f"{directory / file}: its bytes are not those that were saved")
        files[file] = content
    try:
        config = parse_config(manifest.config, config_class(manifest.model), str(directory / MANIFEST))
    except ConfigError as exc:
        raise ArtifactMismatch(f"{directory}: its configuration no longer fits this code ({exc})") from exc
    return model_class(manifest.model).restore(config, files), manifest


@lru_cache(maxsize=1)
def code_version() -> str:
    """Version of the library and a digest of its sources, so that two checkouts cannot be confused."""
    root = Path(swiftbolt.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return f"{swiftbolt.__version__}+{digest.hexdigest()[:12]}"
