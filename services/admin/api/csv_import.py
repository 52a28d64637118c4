"""`/api/v1/connections/import`: connections from a CSV file."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Query, UploadFile

from services.admin.api.route_parameters import Ctx
from services.admin.api.schemas.bulk import ImportedOut
from services.admin.auth.route_permissions import OPERATE_ON_PART
from services.admin.operations.csv_import import HEADINGS, import_connections
from services.admin.problems import responses

router = APIRouter(prefix="/connections", tags=["connections"])
_ABOUT = f"CSV (RFC 4180) in UTF-8. Its first line names fields: {', '.join(HEADINGS)}"


@router.post("/import", dependencies=[OPERATE_ON_PART], responses=responses(409, 413))
def import_csv(
    ctx: Ctx,
    file: Annotated[UploadFile, File(description=_ABOUT)],
    dry_run: Annotated[bool, Query(description="Check it, and add nothing")] = False,
) -> ImportedOut:
    """Adds the connections of a file, all of them or none, disabled. `409` names line and column of
    everything that is wrong (`faults`); a dry run answers with the same and adds nothing."""
    return ImportedOut.model_validate(import_connections(ctx, file.file.read(), dry_run=dry_run))
