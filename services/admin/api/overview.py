"""`/api/v1/overview`."""

from __future__ import annotations

from fastapi import APIRouter

from services.admin.api.handlers import to_out
from services.admin.api.requests import Ctx
from services.admin.api.schemas.overview import (
    BackendOut,
    BacklogOut,
    DelaysOut,
    ExpiringOut,
    OverviewOut,
    ServiceOut,
    SickOut,
    SlotOut,
)
from services.admin.operations.overview import get_overview
from services.admin.people.authorization import LOOK
from services.admin.problems import responses

router = APIRouter(prefix="/overview", tags=["overview"])


@router.get("", dependencies=[LOOK], responses=responses())
def get(ctx: Ctx) -> OverviewOut:
    """How the installation is doing. Contacts no mail server."""
    view = get_overview(ctx)
    return OverviewOut(
        at=view.at,
        connections={str(health): count for health, count in view.connections.items()},
        sick=[SickOut.model_validate(one) for one in view.sick],
        backlog=BacklogOut.model_validate(view.backlog),
        delays=DelaysOut.model_validate(view.delays),
        last_hour=[SlotOut.model_validate(slot) for slot in view.last_hour],
        last_day=[SlotOut.model_validate(slot) for slot in view.last_day],
        quarantined=view.quarantined,
        handlers=[to_out(handler) for handler in view.handlers],
        backends=[BackendOut.model_validate(one) for one in view.backends],
        services=[ServiceOut.model_validate(one) for one in view.services],
        absent=list(view.absent),
        expiring=[ExpiringOut.model_validate(one) for one in view.expiring],
    )
