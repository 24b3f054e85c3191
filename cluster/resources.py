"""How much of the cluster a retrain may use, as configured and as granted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from swiftbolt.config import Strict
from swiftbolt.errors import ConfigError


def require_cpus(cpus: float, threads: int, *, key: str, model: str, file: Path) -> None:
    """A worker must have a CPU for each thread of its model.

    Raises:
        ConfigError: it has not; ``key`` of ``file`` says how many it has.
    """
    if threads > max(1.0, cpus):
        raise ConfigError(str(file), key, f"is {cpus:g}, but {model} is told to use {threads} threads")


class Resources(Strict):
    """Shares of the cluster."""

    symbols_per_trial: int = Field(
        20, ge=1, description="Symbols a Tune trial walks through; choose it so that a trial runs 10-60 s."
    )
    cpus_per_trial: float = Field(1.0, gt=0, description="CPUs a trial reserves; a fit uses one thread.")
    gpus_per_trial: float = Field(
        0.0, ge=0, description="GPUs a trial reserves, for trees apart on `cuda`; 0.25 lets four share one."
    )
    trial_retries: int = Field(
        2, ge=0, description="How often the fits of a worker that died are tried again, in ever smaller shards."
    )
    train_workers: int | tuple[int, int] = Field(
        1,
        description="Ray Train workers that share each training; gradients are averaged over them. [least, most] lets"
        " them come and go, and the release is marked as not reproducible.",
    )
    trainings_at_once: int | Literal["auto"] = Field(
        "auto",
        description="Networks, or folds of pooled trees, in training at a time, each by its own train_workers; auto: as"
        " many as the cluster has room for. Results do not depend on it.",
    )
    cpus_per_train_worker: float = Field(
        1.0, gt=0, description="CPUs of a Ray Train worker; no pooled model may ask for more threads."
    )
    use_gpu: bool | Literal["auto"] = Field("auto", description="auto: when the cluster has a GPU for every worker.")
    storage_path: str | None = Field(
        None,
        description="Where a run keeps what it has done, a folder that all nodes see or s3://bucket/prefix; null is"
        " `runs` in SWIFTBOLT_HOME.",
    )
    wait_s: float = Field(900.0, gt=0, description="Seconds to wait for the cluster to have room for any trial at all.")

    @field_validator("storage_path")
    @classmethod
    def _whole(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("s3://") and not Path(value).is_absolute():
            raise ValueError("is neither an absolute folder nor s3://bucket/prefix")
        return value

    @field_validator("trainings_at_once")
    @classmethod
    def _some(cls, value: int | Literal["auto"]) -> int | Literal["auto"]:
        if value != "auto" and value < 1:
            raise ValueError("is a number from 1 on, or auto")
        return value

    @field_validator("train_workers")
    @classmethod
    def _ordered(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        least, most = value if isinstance(value, tuple) else (value, value)
        if not 1 <= least <= most:
            raise ValueError("is a number from 1 on, or [least, most] with least <= most")
        return value
