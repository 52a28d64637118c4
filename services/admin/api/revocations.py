"""`/api/v1/revocation-lists`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import APIRouter, File, UploadFile

from services.admin.api.route_parameters import Ctx, IdInPath
from services.admin.api.schemas.certificates import RevocationListOut
from services.admin.auth.route_permissions import ADMINISTER
from services.admin.operations import revocations
from services.admin.problems import responses

router = APIRouter(prefix="/revocation-lists", tags=["certificates"])


@router.get("", dependencies=[ADMINISTER], responses=responses())
def list_lists(ctx: Ctx) -> list[RevocationListOut]:
    """The revocation lists of authorities as they were fetched last, those that failed first."""
    return [
        RevocationListOut(**dataclasses.asdict(one))
        for one in revocations.list_revocation_lists(ctx)
    ]


@router.post("", dependencies=[ADMINISTER], status_code=201, responses=responses(409, 413))
def add_list(
    ctx: Ctx, file: Annotated[UploadFile, File(description="A list (CRL) in DER or PEM")]
) -> RevocationListOut:
    """Takes a list of an authority by hand. While it counts, nobody is asked for another one of
    this authority."""
    new = revocations.add_revocation_list(ctx, file.file.read())
    (made,) = [one for one in list_lists(ctx) if one.id == new]
    return made


@router.delete("/{list_id}", dependencies=[ADMINISTER], status_code=204, responses=responses(404))
def delete_list(ctx: Ctx, list_id: IdInPath) -> None:
    """Forgets a list; what was learned from it stays known."""
    revocations.delete_revocation_list(ctx, list_id)
