"""How much of the cluster a retrain may use, as configured and as granted."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

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
    trial_retries: int = Field(2, ge=0, description="How often a trial whose worker died is started again.")
    train_workers: int = Field(1, ge=1, description="Ray Train workers; gradients are averaged over them.")
    cpus_per_train_worker: float = Field(
        1.0, gt=0, description="CPUs of a Ray Train worker; no network may ask for more threads."
    )
    use_gpu: bool | Literal["auto"] = Field("auto", description="auto: when the cluster has a GPU for every worker.")
