"""`/api/v1/overview`."""

from __future__ import annotations

from fastapi import APIRouter

from services.admin.api.handlers import to_out
from services.admin.api.route_parameters import Ctx
from services.admin.api.schemas.derived import values_of
from services.admin.api.schemas.overview import OverviewOut
from services.admin.auth.route_permissions import VIEW
from services.admin.operations.overview import get_overview
from services.admin.problems import responses

router = APIRouter(prefix="/overview", tags=["overview"])


@router.get("", dependencies=[VIEW], responses=responses())
def get(ctx: Ctx) -> OverviewOut:
    """How the installation is doing. Contacts no mail server."""
    view = get_overview(ctx)
    handlers = [to_out(handler) for handler in view.handlers]
    return OverviewOut.model_validate({**values_of(view), "handlers": handlers})
