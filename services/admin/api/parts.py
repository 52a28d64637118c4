"""`/api/v1/messages/{id}/parts`: the parts of a mail, and below it each of them, decoded; beside
it, `/facts`: what else the mail says of itself."""

from __future__ import annotations

import re
import uuid
from typing import Annotated, Final

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import Response, StreamingResponse

from services.admin.api.route_parameters import Ctx
from services.admin.api.schemas.messages import FactsOut, PartsOut
from services.admin.auth.route_permissions import READ_OWN_MAIL
from services.admin.downloads import PartDownload
from services.admin.operations.mail_facts import get_facts
from services.admin.operations.parts import list_parts, read_part
from services.admin.problems import problem, responses

router = APIRouter(prefix="/messages", tags=["messages"])
_OCTETS: Final = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
Original = Annotated[bool, Query(description="Of the mail as it was downloaded")]
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@router.get("/{message_id}/facts", dependencies=[READ_OWN_MAIL], responses=responses(404))
def facts(ctx: Ctx, message_id: uuid.UUID) -> FactsOut:
    """What `data.mail` of the event says beside parts and text, read anew of the mail."""
    found = get_facts(ctx, message_id)
    return FactsOut.model_validate({**found.to_json(), "findings": found.findings})


@router.get("/{message_id}/parts", dependencies=[READ_OWN_MAIL], responses=responses(404))
def parts(ctx: Ctx, message_id: uuid.UUID, original: Original = False) -> PartsOut:
    """Every part that is no multipart, as `data.mail.parts` of the event has them."""
    return PartsOut.model_validate(list_parts(ctx, message_id, original=original))


@router.get(
    "/{message_id}/parts/{path}",
    dependencies=[READ_OWN_MAIL],
    response_class=StreamingResponse,
    responses={
        **responses(404, 416),
        200: {"description": "The part, decoded", "content": _OCTETS},
        206: {"description": "A range of it", "content": _OCTETS},
    },
)
def part(
    ctx: Ctx,
    message_id: uuid.UUID,
    path: Annotated[str, Path(max_length=200, description="As in `data.mail.parts`: 2.1")],
    original: Original = False,
    wanted: Annotated[str | None, Header(alias="Range", max_length=100)] = None,
    condition: Annotated[str | None, Header(alias="If-Range", max_length=1000)] = None,
) -> Response:
    """One part without its transfer encoding, as a stream; one `Range` of octets is given as such
    (RFC 9110 section 14). A type that a browser would run comes as `application/octet-stream`; a
    text has a charset only where all its octets have a meaning in it."""
    found = read_part(ctx, message_id, path, original=original)
    # Answers have no validator, so none can be the one that is asked for (RFC 9110 section 13.1.5).
    octets = None if condition else _range(wanted, found.size)
    if octets is not None and octets[0] >= octets[1]:
        found.close()
        return problem(
            416,
            "range-not-satisfiable",
            f"The part has {found.size} octets.",
            headers={"Content-Range": f"bytes */{found.size}"},
        )
    return PartDownload(found, octets)


def _range(wanted: str | None, size: int) -> tuple[int, int] | None:
    """(first octet, the one behind the last), empty where it lies beyond; None for the whole.

    What is no single range of octets is left out of account, as RFC 9110 section 14.2 allows.
    """
    match = _RANGE.fullmatch(wanted.replace(" ", "")) if wanted else None
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
