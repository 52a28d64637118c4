"""Errors as `application/problem+json` (RFC 9457), each with a stable code and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from services.admin.auth.browser_logins import LoginRefused
from services.admin.auth.passwords import Busy
from services.admin.auth.route_permissions import NotAllowed
from services.admin.auth.token_guesses import TooManyAttempts
from shared.errors import (
    ChangedMeanwhile,
    Conflict,
    InvalidInput,
    NeedsPerson,
    NotFound,
    PosthouseError,
    TryAgain,
)
from shared.mailbox.failures import StepFailed
from shared.validation_error_texts import in_words

#: Places of a request that are told of, where more are wrong.
_MOST_TOLD: Final = 50

_log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"


class UserOut(BaseModel):
    """Something that uses something else: a connection its certificate."""

    model_config = ConfigDict(from_attributes=True)

    kind: str
    id: int
    name: str


class RefusedField(BaseModel):
    """One field that cannot be accepted."""

    field: str = Field(examples=["interval_minutes"])
    detail: str = Field(examples=["'interval_minutes' is whole minutes from 1 to 60."])
    hint: str | None = None


class Problem(BaseModel):
    """What went wrong (RFC 9457). `code` is stable for programs, `detail` and `hint` are for
    people, `field` names the offending field, `errors` every one where there are several."""

    type: str = Field(examples=["urn:posthouse:problem:invalid"])
    title: str = Field(examples=["Not acceptable"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["'interval_minutes' is whole minutes from 1 to 60."])
    code: str = Field(examples=["invalid"])
    field: str | None = Field(default=None, examples=["interval_minutes"])
    hint: str | None = None
    errors: list[RefusedField] | None = None
    step: str | None = Field(
        default=None, description="Where contact with the mail server failed (dns, tcp, tls, …)"
    )
    used_by: list[UserOut] | None = None
    estimate: dict[str, Any] | None = Field(
        default=None, description="409 of enabling: what would be downloaded"
    )


_TITLES = {
    400: "Not understood",
    401: "Not logged in",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    408: "Too slow",
    409: "Conflict",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Wrong media type",
    416: "No such range",
    422: "Not acceptable",
    429: "Too many attempts",
    500: "Internal error",
    502: "The mail server did not let us",
    503: "Not available",
}

#: What every route may answer besides its own statuses, for the OpenAPI document.
_SCHEMA = {"schema": {"$ref": "#/components/schemas/Problem"}}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for these statuses and for those that every route may answer."""
    return {
        status: {
            "model": Problem,
            "description": _TITLES[status],
            "content": {MEDIA_TYPE: _SCHEMA},
        }
        for status in sorted({400, 401, 403, 422, 503, *statuses})
    }


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """One problem as an answer."""
    body = {
        "type": f"urn:posthouse:problem:{code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
    }
    body |= {"hint": hint} if hint else {}
    body |= {name: value for name, value in more.items() if value not in (None, "", ())}
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def status_of(error: PosthouseError) -> int:
    """The HTTP status that an error stands for."""
    match error:
        case InvalidInput():
            return 422
        case LoginRefused():
            return 401
        case NotAllowed():
            return 403
        case NotFound():
            return 404
        case ChangedMeanwhile(named=True):
            return 412
        case Conflict():
            return 409
        case TooManyAttempts() | Busy():
            return 429
        case StepFailed() | NeedsPerson():
            return 502
        case TryAgain():
            return 503
        case _:
            return 500


def problem_of(error: PosthouseError) -> JSONResponse:
    """An error of ours as an answer."""
    more = dict(error.members) if isinstance(error, Conflict) else {}
    if isinstance(error, InvalidInput):
        more["field"] = error.field
        if error.more:
            more["errors"] = [
                {"field": one.field, "detail": str(one)} | ({"hint": one.hint} if one.hint else {})
                for one in error.every
            ]
    if isinstance(error, StepFailed):
        more["step"] = error.step
    headers = {}
    if isinstance(error, TryAgain) and error.retry_after:
        headers["Retry-After"] = str(int(error.retry_after))
    status = status_of(error)
    if error.code == "internal":
        status = 500
    return problem(status, error.code, str(error), hint=error.hint, headers=headers, **more)


def problem_body(error: PosthouseError) -> dict[str, Any]:
    """The problem of one thing among many, in an answer about all of them."""
    body: dict[str, Any] = json.loads(bytes(problem_of(error).body))
    return body


def _misformed(error: Mapping[str, Any]) -> InvalidInput:
    """What pydantic found of one field of a request."""
    path = [str(part) for part in error["loc"][1:]]
    name = ".".join(path)
    if error["type"] == "extra_forbidden":
        return InvalidInput(f"There is no field {name!r} here.", field=name)
    about = repr(name) if name else "The body"
    return InvalidInput(f"{about}{in_words(error['type'], error['msg'])}.", field=name)


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem."""

    @app.exception_handler(PosthouseError)
    def ours(_: Request, error: PosthouseError) -> JSONResponse:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        if error.errors()[0]["type"] == "json_invalid":
            return problem(422, "not-json", "The body is not valid JSON.")
        first, *others = map(_misformed, error.errors()[:_MOST_TOLD])
        return problem_of(InvalidInput(str(first), field=first.field, more=others))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> JSONResponse:
        allowed = (error.headers or {}).get("Allow", "")
        detail = {
            400: "The body cannot be read: it is neither JSON in UTF-8 nor a form.",
            404: "There is nothing at this address.",
            405: f"{request.method} is not possible here. Possible is: {allowed}.",
        }.get(error.status_code, str(error.detail))
        return problem(
            error.status_code, f"http-{error.status_code}", detail, headers=error.headers
        )

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error(
            "request failed unexpectedly",
            path=request.url.path,
            exc_info=(type(error), error, error.__traceback__),
        )
        return problem(
            500,
            "internal",
            "Posthouse made a mistake; it is in the log of the admin service.",
            hint="Try again; if it stays, look for this time in the log.",
        )
