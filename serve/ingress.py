"""The routes: what may be asked over HTTP and how it is documented. What is answered lies in ``serve.desk``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import date
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response

import swiftbolt
from serve.desk import Desk
from serve.problems import install_problems, problem_responses
from serve.schemas import (
    BarsReply,
    ForecastReply,
    ForecastRequest,
    HealthReply,
    Horizon,
    ReadyReply,
    ReleaseReply,
    Symbol,
    SymbolReply,
)
from swiftbolt.ensemble.weights import ENSEMBLE

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

MAX_BARS = 10_000

DESCRIPTION = """
Forecasts of daily closes: a price target and a 95 % interval for every session up to the horizon, the calibrated
probability of the direction, the view of each model, and what moves the trees' most. Errors are RFC 9457 problem
documents.
"""


def create_api(desk: Desk, lifespan: Lifespan | None = None) -> FastAPI:
    """The HTTP application over ``desk``; ``lifespan`` is entered before the first request and left after the last."""
    api = FastAPI(
        title="SwiftBolt", version=swiftbolt.__version__, description=DESCRIPTION, redoc_url=None, lifespan=lifespan
    )
    for model in (ENSEMBLE, *desk.members):
        _add_forecast_routes(api, desk, model)
    _add_market_routes(api, desk)
    _add_release_routes(api, desk)
    _add_state_routes(api, desk)
    install_problems(api)
    return api


def _add_forecast_routes(api: FastAPI, desk: Desk, model: str) -> None:
    """GET and POST of one model's forecasts."""

    async def get(
        symbol: Annotated[Symbol, Query()],
        horizon: Annotated[Horizon, Query()] = 5,
        live: Annotated[bool, Query(description="Ask the models now, on the newest stored bars.")] = False,
    ) -> Response:
        return _json(await desk.forecast(model, symbol, horizon, live=live))

    async def post(request: ForecastRequest) -> Response:
        return _json(await desk.forecast(model, request.symbol, request.horizon, live=request.live))

    who = "the ensemble" if model == ENSEMBLE else model
    for method, endpoint in (("GET", get), ("POST", post)):
        api.add_api_route(
            f"/api/{model}/forecast",
            endpoint,
            methods=[method],
            operation_id=f"{method.lower()}_{model}_forecast",
            summary=f"Forecast of {who}",
            response_model=ForecastReply,
            responses=problem_responses(404, 422, 503),
            tags=["forecasts"],
        )


def _add_market_routes(api: FastAPI, desk: Desk) -> None:
    @api.get(
        "/api/bars/{symbol}",
        operation_id="get_bars",
        summary="Raw daily bars, oldest first",
        responses=problem_responses(404, 422, 503),
        tags=["market"],
    )
    async def get_bars(
        symbol: Annotated[Symbol, Path()],
        start: Annotated[date | None, Query(description="First day wanted.")] = None,
        end: Annotated[date | None, Query(description="Last day wanted.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_BARS, description="At most so many, the newest ones.")] = 500,
    ) -> BarsReply:
        return await desk.bars(symbol, start, end, limit)

    @api.get(
        "/api/symbols",
        operation_id="get_symbols",
        summary="Every symbol there are bars for",
        responses=problem_responses(503),
        tags=["market"],
    )
    async def get_symbols() -> list[SymbolReply]:
        return desk.symbols()


def _add_release_routes(api: FastAPI, desk: Desk) -> None:
    @api.get(
        "/api/releases",
        operation_id="get_releases",
        summary="Every release, newest first",
        responses=problem_responses(503),
        tags=["releases"],
    )
    async def get_releases() -> list[ReleaseReply]:
        return await desk.releases()

    @api.get(
        "/api/scorecard",
        operation_id="get_scorecard",
        summary="The evaluation behind the promoted release",
        responses=problem_responses(503),
        tags=["releases"],
    )
    async def get_scorecard() -> dict[str, Any]:
        return dict(desk.scorecard())


def _add_state_routes(api: FastAPI, desk: Desk) -> None:
    @api.get("/health", operation_id="get_health", summary="The process runs", tags=["state"])
    async def get_health() -> HealthReply:
        return HealthReply()

    @api.get(
        "/ready",
        operation_id="get_ready",
        summary="A release is loaded",
        responses=problem_responses(503),
        tags=["state"],
    )
    async def get_ready() -> ReadyReply:
        return desk.ready()


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")
