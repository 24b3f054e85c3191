"""The graph: an ingress that answers from memory, an ensemble behind it, a deployment per model behind that.

A thin coat of Ray over plain classes. ``build_app`` is what ``serve run``, ``serve deploy`` and
``python -m serve`` all start.
"""

# No `from __future__ import annotations` here: Ray reads the type of build_app's argument to build it from YAML.

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import Field, field_validator
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve import Application, Deployment
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from serve.desk import Desk
from serve.ensemble import Ensemble
from serve.ingress import create_api
from serve.member import Answer, Member
from serve.snapshot import OpenStore, Snapshot, SnapshotKeeper
from serve.views import ReleaseRef, SymbolForecast
from swiftbolt.config import Strict
from swiftbolt.errors import ServingError, SwiftBoltError
from swiftbolt.feature_cache import read_panel
from swiftbolt.forecast import MODELS
from swiftbolt.local import ONE_THREAD
from swiftbolt.panel import Panel
from swiftbolt.settings import Settings
from swiftbolt.store import Store, resolve_url
from swiftbolt.universe import Cohort

log = logging.getLogger(__name__)

Handle = DeploymentHandle[Any]

# A tenth of a core each, so that the graph fits beside other work on two; libraries get one thread, polars too.
REPLICA_CPUS = 0.1
REPLICA_ENVIRONMENT = {**ONE_THREAD, "POLARS_MAX_THREADS": "1"}


class AppArgs(Strict):
    """``args:`` of ``configs/serve/*.yaml``."""

    members: tuple[str, ...] = Field(MODELS, min_length=1, description="Models of the graph, one deployment each.")
    deadline_s: float = Field(2.0, gt=0, description="Seconds a live forecast waits for its models.")
    poll_s: float = Field(2.0, gt=0, description="Seconds between two looks at which release is active.")
    newest_every_s: float = Field(15.0, gt=0, description="Seconds between two looks at which bars are the newest.")

    @field_validator("members")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(value) - set(MODELS))
        if unknown or len(set(value)) < len(value):
            raise ValueError(f"members must be distinct and among {', '.join(MODELS)}")
        return value


def build_app(args: AppArgs) -> Application:
    """The graph over the store and the artifacts of this environment."""
    settings = Settings()
    home = {"SWIFTBOLT_HOME": str(settings.home), **REPLICA_ENVIRONMENT}
    with_store = {**home, "DATABASE_URL": ready_store(settings)}
    members = {
        name: deployment(MemberReplica, name, home, max_ongoing_requests=16).bind(name, settings.artifacts)
        for name in args.members
    }
    ensemble = deployment(EnsembleReplica, "ensemble", with_store, max_ongoing_requests=64)
    ingress = deployment(serve.ingress()(IngressReplica), "ingress", with_store, max_ongoing_requests=1000)
    return ingress.bind(ensemble.bind(members, args.deadline_s), args)


def ready_store(settings: Settings) -> str:
    """URL of a store whose tables are up to date; the embedded one is started if it is meant. Replicas only connect.

    Raises:
        StoreError: it cannot be reached or migrated.
    """
    url = resolve_url(settings)
    with Store.connect(url) as store:
        store.migrate()
    return url


def _open_store() -> OpenStore:
    """Connects on first use and keeps the connection; after a failure the next use tries again."""
    return cache(partial(Store.connect, resolve_url(Settings())))


def deployment(replica: type, name: str, environment: Mapping[str, str], *, max_ongoing_requests: int) -> Deployment:
    """``replica`` as a deployment of one process with our share of a core and ``environment``."""
    made: Any = serve.deployment(
        replica,
        name=name,
        max_ongoing_requests=max_ongoing_requests,
        ray_actor_options={"num_cpus": REPLICA_CPUS, "runtime_env": {"env_vars": dict(environment)}},
        graceful_shutdown_wait_loop_s=0.2,
        graceful_shutdown_timeout_s=5.0,
    )
    assert isinstance(made, Deployment)
    return made


class MemberReplica:
    """A model in a process of its own."""

    def __init__(self, name: str, artifacts: Path) -> None:
        self._member = Member(name, artifacts)

    def forecast(self, run: str, panel: Panel) -> Answer:
        """See ``Member.forecast``; runs in a thread, as every method here that is not asynchronous."""
        return self._member.forecast(run, panel)


class EnsembleReplica:
    """The live graph's middle: reads the store, asks the members."""

    def __init__(self, members: dict[str, Handle], deadline_s: float) -> None:
        self._open_store = _open_store()
        remote = {name: partial(_ask_member, handle) for name, handle in members.items()}
        self._ensemble = Ensemble(remote, self._panel, deadline_s)

    async def forecast(self, symbol: str, release: ReleaseRef, model: str) -> SymbolForecast:
        """See ``Ensemble.forecast``."""
        return await self._ensemble.forecast(symbol, release, model)

    async def prepare(self, symbol: str, release: ReleaseRef) -> None:
        """See ``Ensemble.prepare``."""
        await self._ensemble.prepare(symbol, release)

    def _panel(self, symbol: str, cohort: Cohort) -> Panel:
        return read_panel(self._open_store(), symbol, cohort)


class IngressReplica:
    """HTTP: the promoted release from memory, everything else from the store or the ensemble."""

    def __init__(self, ensemble: Handle, args: AppArgs) -> None:
        open_store = _open_store()
        self._args = args
        self._live = RemoteEnsemble(ensemble)
        self._keeper = SnapshotKeeper(open_store, Settings().artifacts, newest_every_s=args.newest_every_s)
        self._desk = Desk(self._keeper, self._live, open_store, args.members)
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: asyncio.Task[None] | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve once the constructor has returned."""
        return create_api(self._desk, self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Hold the first snapshot before the first request, and follow the active release from then on."""
        await self._keeper.update(self._prepare)
        self._following = asyncio.create_task(self._keeper.follow(self._args.poll_s, self._prepare))
        try:
            yield
        finally:
            self._following.cancel()

    def check_health(self) -> None:
        """Fail, so that Serve replaces this replica, once it no longer follows the active release."""
        if self._following is not None and self._following.done():
            self._following.result()

    def _prepare(self, snapshot: Snapshot) -> None:
        """Have the members load a release that answers from now on; nobody waits for it."""
        task = asyncio.create_task(self._live.prepare(next(iter(snapshot.views)), snapshot.release))
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)


class RemoteEnsemble:
    """The ensemble behind a deployment handle."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def forecast(self, symbol: str, release: ReleaseRef, model: str) -> SymbolForecast:
        """See ``Ensemble.forecast``."""
        forecast: SymbolForecast = await _answer(self._handle.forecast.remote(symbol, release, model))
        return forecast

    async def prepare(self, symbol: str, release: ReleaseRef) -> None:
        """See ``Ensemble.prepare``; a failure is logged, for the hot path does without members."""
        try:
            await _answer(self._handle.prepare.remote(symbol, release))
        except SwiftBoltError as exc:
            log.warning("the members could not prepare run %s: %s", release.run, exc)


async def _ask_member(handle: Handle, run: str, panel: Panel) -> Answer:
    answer: Answer = await _answer(handle.forecast.remote(run, panel))
    return answer


async def _answer(response: DeploymentResponse[Any] | DeploymentResponseGenerator[Any]) -> Any:
    """What a deployment answers; its own errors arrive as themselves, Ray's as ``ServingError``."""
    assert isinstance(response, DeploymentResponse)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()  # type: ignore[no-untyped-call]
        raise
    except RayTaskError as exc:
        if isinstance(exc.cause, SwiftBoltError):
            raise exc.cause from None
        raise ServingError(f"a deployment failed: {exc.cause!r}") from exc
    except (RayError, RayServeException) as exc:
        raise ServingError(f"a deployment did not answer: {exc}") from exc
