"""`/api/v1/people`, `/api/v1/tokens` and `/api/v1/audit`: for administrators."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from services.admin.api.route_parameters import Ctx, EditingCtx, IdInPath, Limit, SearchText, tag
from services.admin.api.schemas.common import PageOut
from services.admin.api.schemas.people import (
    AuditEntryOut,
    AuditPageOut,
    PersonBody,
    PersonChanges,
    PersonOut,
    TokenBody,
    TokenOut,
)
from services.admin.auth.route_permissions import ADMINISTER
from services.admin.operations import people
from services.admin.problems import responses
from shared.people import Person

router = APIRouter(tags=["people"])


@router.get("/people", dependencies=[ADMINISTER], responses=responses())
def list_people(ctx: Ctx, q: SearchText = "") -> PageOut[PersonOut]:
    """All who may log in and whose name holds `q`."""
    found = [PersonOut.model_validate(p) for p in _named(people.list_people(ctx), q)]
    return PageOut(items=found, total=len(found), page=1, per_page=max(1, len(found)))


@router.post("/people", dependencies=[ADMINISTER], status_code=201, responses=responses())
def create_person(ctx: Ctx, body: PersonBody) -> PersonOut:
    """Lets somebody in."""
    return PersonOut.model_validate(people.create_person(ctx, body))


@router.get("/people/{person_id}", dependencies=[ADMINISTER], responses=responses(404))
def get_person(ctx: Ctx, response: Response, person_id: IdInPath) -> PersonOut:
    """Somebody who may log in."""
    return _tagged(response, people.get_person(ctx, person_id))


@router.patch("/people/{person_id}", dependencies=[ADMINISTER], responses=responses(404, 409, 412))
def update_person(
    ctx: EditingCtx, response: Response, person_id: IdInPath, body: PersonChanges
) -> PersonOut:
    """Changes the given fields; `409` where no administrator would be left."""
    return _tagged(response, people.update_person(ctx, person_id, body))


@router.delete(
    "/people/{person_id}", dependencies=[ADMINISTER], status_code=204, responses=responses(404, 409)
)
def delete_person(
    ctx: Ctx, person_id: IdInPath, tokens: Annotated[Literal["end", "take-over"], Query()] = "end"
) -> None:
    """Ends the person's sessions, and the tokens that they made unless you take them over; `409`
    where no administrator would be left."""
    people.delete_person(ctx, person_id, take_over_tokens=tokens == "take-over")


@router.delete(
    "/people/{person_id}/sessions",
    dependencies=[ADMINISTER],
    status_code=204,
    responses=responses(404),
)
def end_sessions(ctx: Ctx, person_id: IdInPath) -> None:
    """Every browser of this person has to log in again."""
    people.end_sessions(ctx, person_id)


@router.delete(
    "/people/{person_id}/second-factor",
    dependencies=[ADMINISTER],
    status_code=204,
    responses=responses(404),
)
def remove_second_factor(ctx: Ctx, person_id: IdInPath) -> None:
    """For somebody who lost it: the password is enough until they set up another one."""
    people.remove_second_factor(ctx, person_id)


@router.get("/tokens", dependencies=[ADMINISTER], responses=responses())
def list_tokens(ctx: Ctx, q: SearchText = "") -> PageOut[TokenOut]:
    """The API tokens whose name holds `q`, without what they are."""
    found = [TokenOut.model_validate(t) for t in _named(people.list_tokens(ctx), q)]
    return PageOut(items=found, total=len(found), page=1, per_page=max(1, len(found)))


@router.post("/tokens", dependencies=[ADMINISTER], status_code=201, responses=responses())
def create_token(ctx: Ctx, body: TokenBody) -> TokenOut:
    """Makes a token; the answer holds it, once."""
    made, token = people.create_token(ctx, body)
    return TokenOut.model_validate(made).model_copy(update={"token": token})


@router.get("/tokens/{token_id}", dependencies=[ADMINISTER], responses=responses(404))
def get_token(ctx: Ctx, token_id: IdInPath) -> TokenOut:
    """A token, without what it is."""
    return TokenOut.model_validate(people.get_token(ctx, token_id))


@router.post("/tokens/{token_id}/take-over", dependencies=[ADMINISTER], responses=responses(404))
def take_over_token(ctx: Ctx, token_id: IdInPath) -> TokenOut:
    """It is yours from now on: what it opens is bounded by what you may."""
    return TokenOut.model_validate(people.take_over_token(ctx, token_id))


@router.delete(
    "/tokens/{token_id}", dependencies=[ADMINISTER], status_code=204, responses=responses(404)
)
def delete_token(ctx: Ctx, token_id: IdInPath) -> None:
    """It opens nothing from now on."""
    people.delete_token(ctx, token_id)


@router.get("/audit", dependencies=[ADMINISTER], responses=responses())
def audit(
    ctx: Ctx,
    q: SearchText = "",
    subject: SearchText = "",
    before: uuid.UUID | None = None,
    limit: Limit = 50,
) -> AuditPageOut:
    """Every change: who, what, before and after. `subject` is exact (`connection/7`)."""
    found, following = people.audit_log(ctx, q=q, subject=subject, before=before, limit=limit)
    return AuditPageOut(
        items=[AuditEntryOut.model_validate(entry) for entry in found], next=following
    )


def _named(found: Sequence[Any], part: str) -> list[Any]:
    return [one for one in found if part.strip().casefold() in one.name.casefold()]


def _tagged(response: Response, person: Person) -> PersonOut:
    tag(response, person)
    return PersonOut.model_validate(person)
