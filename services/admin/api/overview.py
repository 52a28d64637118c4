"""`/api/v1/overview`."""

from __future__ import annotations

from fastapi import APIRouter

from services.admin.api.handlers import shown
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
    seen = get_overview(ctx)
    return OverviewOut(
        at=seen.at,
        connections={str(health): count for health, count in seen.connections.items()},
        sick=[SickOut.model_validate(one) for one in seen.sick],
        backlog=BacklogOut.model_validate(seen.backlog),
        delays=DelaysOut.model_validate(seen.delays),
        last_hour=[SlotOut.model_validate(slot) for slot in seen.last_hour],
        last_day=[SlotOut.model_validate(slot) for slot in seen.last_day],
        quarantined=seen.quarantined,
        handlers=[shown(handler) for handler in seen.handlers],
        backends=[BackendOut.model_validate(one) for one in seen.backends],
        services=[ServiceOut.model_validate(one) for one in seen.services],
        absent=list(seen.absent),
        expiring=[ExpiringOut.model_validate(one) for one in seen.expiring],
    )
