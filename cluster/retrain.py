"""Retrain a universe and leave a release: ``python -m cluster.retrain --config configs/retrain/demo.yaml``.

Bars from the store become a panel; Tune fans the per-symbol walk-forward out, Train fits the pooled models; the live
fold's artifacts and forecasts become a release with its digest, and the gate says whether it is served.

A run that died goes on when the same command is given again: what it did lies in its storage. One universe is retrained
by one run at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from pydantic import Field

from cluster.command import parser_of, run_program
from cluster.history import refuse_files
from cluster.lease import Lease
from cluster.resources import Resources, require_cpus
from cluster.run_records import Line
from cluster.storage import RunStorage
from cluster.take_up import KIND, identity_of, take_up, universe_key
from swiftbolt.config import load_config
from swiftbolt.errors import ConfigError
from swiftbolt.evaluation.gate import GateConfig, PromoteMode
from swiftbolt.evaluation.recipe import Recipe, RecipeConfig, beside, require_members
from swiftbolt.local import use_token_authentication
from swiftbolt.release import Release
from swiftbolt.settings import Settings
from swiftbolt.store import Store, resolve_url
from swiftbolt.universe import Universe


class RetrainConfig(RecipeConfig):
    """``configs/retrain/*.yaml``."""

    resources: Resources = Field(default_factory=Resources, description="Shares of the cluster.")
    max_failed_share: float = Field(
        0.02,
        ge=0,
        lt=1,
        description="Share of symbols with a failed fit above which the run fails and releases nothing.",
    )
    promote: PromoteMode = Field(
        "gate", description="never; gate: when it is not worse than what is served; always: without asking."
    )
    gate: GateConfig = Field(default_factory=GateConfig, description="What a release must show to be promoted.")
    resume_within_sessions: int = Field(
        5, ge=0, description="A run that died goes on as long as the store has no more newer sessions than these."
    )


def retrain(
    config_path: Path,
    overrides: Sequence[str],
    settings: Settings,
    write: Line,
    *,
    fresh: bool = False,
    promote: PromoteMode | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Release:
    """Do one retrain, or go on with one, from bars in the store to a release in the store.

    Args:
        fresh: begin anew where an unfinished run of the same recipe and universe could go on.
        promote: instead of the configuration's.
        now: aware; names the run and enters nothing else.

    Raises:
        SwiftBoltError: the run failed; nothing was published, it is recorded as failed, and what it did is kept.
    """
    use_token_authentication(settings)
    from cluster.retrain_run import RetrainRun  # Ray reads how it is authenticated when it is imported

    config = load_config(config_path, RetrainConfig, overrides)
    recipe = Recipe.read(config, config_path)
    require_members(recipe, config_path)
    require_shares(config.resources, recipe, config_path)
    universe_path = beside(config_path, config.universe)
    universe = load_config(universe_path, Universe)
    refuse_files(universe, universe_path)
    url = resolve_url(settings)
    storage_root = config.resources.storage_path or settings.home / "runs"

    def storage_of(run: str) -> RunStorage:
        return RunStorage.of(storage_root, run)

    with Store.connect(url) as store:
        store.migrate()
        what = "the retrain of this universe"
        with Lease(url, f"{KIND}:{universe_key(universe)}", what=what, write=write) as lease:
            work = take_up(
                store,
                storage_of,
                recipe,
                universe,
                {"recipe": recipe.to_json(), "universe": universe.model_dump(mode="json")},
                identity_of(recipe, universe, config.resources.train_workers),
                fresh=fresh,
                resume_within_sessions=config.resume_within_sessions,
                now=now(),
                named=lease.name_run,
                write=write,
            )
            return RetrainRun(
                resources=config.resources,
                max_failed_share=config.max_failed_share,
                promote=promote or config.promote,
                gate=config.gate,
                recipe=recipe,
                universe=universe,
                settings=settings,
                url=url,
                storage_of=storage_of,
                store=store,
                lease=lease,
                work=work,
            ).run(write)


def require_shares(resources: Resources, recipe: Recipe, file: Path) -> None:
    """Refuse a model that asks for more than its workers have, and GPUs that nobody would use.

    Raises:
        ConfigError: names the key of ``file``.
    """
    on_gpus = set()
    for name, model in recipe.models.items():
        is_pooled = name in recipe.networks or getattr(model, "scope", "symbol") == "universe"
        key = "cpus_per_train_worker" if is_pooled else "cpus_per_trial"
        threads = getattr(model, "threads", 1)
        require_cpus(getattr(resources, key), threads, key=f"resources.{key}", model=name, file=file)
        if getattr(model, "device", "cpu") == "cuda":
            on_gpus.add(is_pooled)
    if False in on_gpus and not resources.gpus_per_trial:
        raise ConfigError(str(file), "resources.gpus_per_trial", "is 0, but xgboost is told to grow its trees on cuda")
    if resources.gpus_per_trial and False not in on_gpus:
        raise ConfigError(
            str(file),
            "resources.gpus_per_trial",
            f"is {resources.gpus_per_trial:g}, and no model that is fitted in trials uses a GPU: set it to 0, or"
            " xgboost to scope: symbol and device: cuda",
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says."""
    parser = parser_of("python -m cluster.retrain", __doc__.splitlines()[0], "configs/retrain/")
    parser.add_argument(
        "--fresh", action="store_true", help="Begin anew, where a run of the same recipe that died could go on."
    )
    parser.add_argument(
        "--promote",
        choices=get_args(PromoteMode),
        help="Whether the release is served; the configuration says it, too.",
    )
    parsed = parser.parse_args(arguments)
    return run_program(
        lambda write: retrain(parsed.config, parsed.set, Settings(), write, fresh=parsed.fresh, promote=parsed.promote),
        "interrupted; the same command goes on with it",
    )


if __name__ == "__main__":
    sys.exit(main())
