"""What routes take from a request: who asks, which version they change, words and pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request, Response
from pydantic import Field

from services.admin.auth.route_permissions import principal_of
from services.admin.context import AppState, Context
from services.admin.operations.edit_conflicts import Versioned, version_of

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
