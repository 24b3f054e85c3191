"""Errors over HTTP: RFC 9457 problem documents, and the one place where an error is given a status.

A detail is one sentence for a person. It never shows a traceback, a path or a connection string.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from swiftbolt.errors import (
    InsufficientHistory,
    NoForecast,
    NoMemberAnswered,
    NoRelease,
    NotFound,
    StoreError,
    StoreUnavailable,
    SwiftBoltError,
)

log = logging.getLogger(__name__)

MAX_DETAIL = 300
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it."""

    type: str = Field(description="Names the kind of problem; stable, to be compared by programs.")
    title: str = Field(description="The kind of problem in words.")
    status: int = Field(description="The HTTP status again.")
    detail: str = Field(description="What happened this time and what to do, in one sentence.")
    instance: str = Field(description="Path of the request.")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem. ``detail`` replaces the error's own words where those are not for the public."""

    status: int
    slug: str
    title: str
    detail: str | None = None


# The nearest class of an error's ancestry decides.
KINDS: Mapping[type[SwiftBoltError], Kind] = {
    NotFound: Kind(404, "not-found", "Not found"),
    NoForecast: Kind(404, "no-forecast", "No forecast"),
    InsufficientHistory: Kind(422, "insufficient-history", "Not enough history"),
    NoRelease: Kind(503, "no-release", "No release"),
    NoMemberAnswered: Kind(503, "no-member-answered", "No model answered"),
    StoreUnavailable: Kind(503, "store-unavailable", "Database away", "The database cannot be reached; try again."),
    StoreError: Kind(503, "store-failed", "Database failed", "The database refused the request; the log says why."),
    SwiftBoltError: Kind(503, "unavailable", "Not available", "This cannot be answered now; the log says why."),
}
INVALID_REQUEST = Kind(422, "invalid-request", "Invalid request")
UNEXPECTED = Kind(500, "unexpected", "Unexpected error", "Something unexpected went wrong; the log says what.")

_PLAIN_DETAILS = {
    404: "There is nothing at this path; /docs lists what there is.",
    405: "This path does not take that method; /docs lists those it takes.",
}


def kind_of(error: SwiftBoltError) -> Kind:
    """The kind of problem an error is."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)


def install_problems(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem document, and say so in its OpenAPI document."""
    app.add_exception_handler(SwiftBoltError, _on_swiftbolt_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unexpected)

    generate = app.openapi

    def openapi() -> dict[str, Any]:
        return _with_problem_media_type(generate())

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses=`` of a route that can fail with ``statuses``."""
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in statuses}


def _response(request: Request, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    problem = Problem(
        type=f"urn:swiftbolt:problem:{kind.slug}",
        title=kind.title,
        status=kind.status,
        detail=_sentence(kind.detail or detail),
        instance=request.url.path,
    )
    return JSONResponse(problem.model_dump(), status_code=kind.status, media_type=MEDIA_TYPE, headers=headers)


def _on_swiftbolt_error(request: Request, exc: Exception) -> JSONResponse:
    error = cast(SwiftBoltError, exc)
    kind = kind_of(error)
    if kind.status >= 500:
        log.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return _response(request, kind, str(error))


def _on_invalid_request(request: Request, exc: Exception) -> JSONResponse:
    """Name the first fault by its field; the input itself is not echoed."""
    faults = cast(RequestValidationError, exc).errors()
    first = faults[0]
    if first["type"] == "json_invalid":
        return _response(request, INVALID_REQUEST, "the body is not JSON")
    # ("query", "horizon") or ("body", "horizon"); a whole body has no name below "body".
    where = ".".join(str(part) for part in first["loc"][1:]) or "body"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return _response(request, INVALID_REQUEST, f"{where}: {first['msg']}{more}")


def _on_http_exception(request: Request, exc: Exception) -> JSONResponse:
    error = cast(HTTPException, exc)
    phrase = HTTPStatus(error.status_code).phrase
    kind = Kind(error.status_code, phrase.lower().replace(" ", "-"), phrase)
    if error.status_code == 400:  # FastAPI's word for a body that cannot be decoded at all
        return _response(request, INVALID_REQUEST, "the body is not JSON")
    return _response(request, kind, _PLAIN_DETAILS.get(error.status_code, str(error.detail)), error.headers)


def _on_unexpected(request: Request, exc: Exception) -> JSONResponse:
    log.error("%s %s failed unexpectedly", request.method, request.url.path, exc_info=exc)
    return _response(request, UNEXPECTED, "")


def _sentence(text: str) -> str:
    """One line of bounded length that ends as a sentence does; half a surrogate pair would not encode."""
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    if len(text) > MAX_DETAIL:
        text = text[:MAX_DETAIL] + " ..."
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _with_problem_media_type(schema: dict[str, Any]) -> dict[str, Any]:
    """FastAPI documents every reply as JSON; ours of status 400 and above are problem documents."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status >= "400" and "application/json" in response.get("content", {}):
                    response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
    return schema
