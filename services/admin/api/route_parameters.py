"""What routes take from a request: who asks, and threads for those that wait for mail servers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import Field

from services.admin.auth.route_permissions import principal_of
from services.admin.context import AppState, Context
from services.admin.operations.edit_conflicts import Versioned, version_of

T = TypeVar("T")
#: Requests that wait for a mail server at the same time, apart from all others.
_WAITING: Final = 32

IdInPath = Annotated[int, Path(ge=1, le=2**63 - 1)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000, description="Counts from 1")]
PerPage = Annotated[int, Query(ge=1, le=500)]
Limit = Annotated[int, Query(ge=1, le=500)]
#: Postgres knows no NUL in a text.
SearchText = Annotated[str, Query(max_length=1000, pattern=r"^[^\x00]*$")]

Tag = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[^\x00]*$")]


def context_of(request: Request) -> Context:
    """The operations' context of this request."""
    app_state: AppState = request.app.state.app_state
    return Context(app_state, principal_of(request))


def editing_context_of(
    request: Request,
    if_match: Annotated[
        str,
        Header(
            max_length=200,
            description="The `ETag` of what is to be changed: `412` where somebody else changed it",
        ),
    ] = "",
) -> Context:
    """The context of a change, which may name the version that it is made of (RFC 9110 section
    13.1.1)."""
    expected = if_match.strip().removeprefix("W/").strip('"')
    return replace(context_of(request), expected="" if expected == "*" else expected)


Ctx = Annotated[Context, Depends(context_of)]
EditingCtx = Annotated[Context, Depends(editing_context_of)]


def tag(response: Response, value: Versioned) -> None:
    """Says which version an answer shows."""
    response.headers["ETag"] = f'"{version_of(value)}"'


async def run_in_mail_threads(request: Request, work: Callable[[], T]) -> T:
    """Runs what may wait for a mail server, so that the other routes keep their threads."""
    limiter: CapacityLimiter | None = getattr(request.app.state, "waiting", None)
    if limiter is None:
        limiter = request.app.state.waiting = CapacityLimiter(_WAITING)
    return await to_thread.run_sync(work, limiter=limiter)
