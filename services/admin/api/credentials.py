"""`/api/v1/credentials`."""

from __future__ import annotations

import dataclasses

from fastapi import APIRouter, Response

from services.admin.api.route_parameters import Ctx, EditingCtx, IdInPath, SearchText, tag
from services.admin.api.schemas.common import PageOut
from services.admin.api.schemas.credentials import CredentialBody, CredentialChanges, CredentialOut
from services.admin.auth.route_permissions import ADMINISTER, VIEW
from services.admin.operations import credentials
from services.admin.operations.credentials import CredentialView
from services.admin.problems import UserOut, responses

router = APIRouter(prefix="/credentials", tags=["credentials"])


@router.get("", dependencies=[VIEW], responses=responses())
def search(ctx: Ctx, q: SearchText = "") -> PageOut[CredentialOut]:
    """All whose name or client id holds `q`."""
    items = [_to_out(view, full=False) for view in credentials.search_credentials(ctx, q)]
    return PageOut(items=items, total=len(items), page=1, per_page=max(1, len(items)))


@router.post("", dependencies=[ADMINISTER], status_code=201, responses=responses(409))
def create(ctx: Ctx, body: CredentialBody) -> CredentialOut:
    """Adds a credential; `redirect_uri` of the answer is to be entered at the provider."""
    return _to_out(credentials.create_credential(ctx, body))


@router.get("/{credential_id}", dependencies=[VIEW], responses=responses(404))
def get(ctx: Ctx, response: Response, credential_id: IdInPath) -> CredentialOut:
    """One credential and the connections that use it."""
    return _tagged(response, credentials.get_credential(ctx, credential_id))


@router.patch("/{credential_id}", dependencies=[ADMINISTER], responses=responses(404, 409, 412))
def update(
    ctx: EditingCtx, response: Response, credential_id: IdInPath, body: CredentialChanges
) -> CredentialOut:
    """Changes the given fields; secrets that are left out stay."""
    return _tagged(response, credentials.update_credential(ctx, credential_id, body))


@router.delete(
    "/{credential_id}",
    dependencies=[ADMINISTER],
    status_code=204,
    responses=responses(404, 409, 412),
)
def delete(ctx: EditingCtx, credential_id: IdInPath) -> None:
    """`409` with `used_by` while connections use it."""
    credentials.delete_credential(ctx, credential_id)


def _to_out(view: CredentialView, *, full: bool = True) -> CredentialOut:
    users = [UserOut.model_validate(user) for user in view.used_by] if full else None
    return CredentialOut(
        **dataclasses.asdict(view.credential),
        redirect_uri=view.redirect_uri,
        admin_consent_url=view.admin_consent_url,
        redirect_problem=view.redirect_problem,
        uses=view.uses,
        used_by=users,
    )


def _tagged(response: Response, view: CredentialView) -> CredentialOut:
    tag(response, view.credential)
    return _to_out(view)
