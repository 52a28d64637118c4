"""The list of connections, with its filters, and the pickers of connections."""

from __future__ import annotations

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import VIEW_PART
from services.admin.operations.connection_list import (
    SORTS,
    Filter,
    handler_names,
    search_connections,
    tags_in_use,
)
from services.admin.pages.forms import page_number, whole_number
from services.admin.pages.rendering import render
from services.admin.pages.request_context import context_of, is_part
from shared.connections import Health
from shared.kinds import KINDS, kind_named

router = APIRouter(prefix="/connections")
_PICKED = 20
#: Of a page: rows are of one line each.
_LISTED = 100
_COLUMNS = (
    ("name", "Name"),
    ("health", "State"),
    ("username", "Mailbox"),
    ("last_success", "Last success"),
    ("next_run", "Next run"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the address of the list says. What it cannot mean is left out, as in an old link."""

    q: str = ""
    health: str = ""
    mode: str = ""
    tag: str = ""
    handler: str = ""
    sort: str = "name"
    page: int = 1

    @classmethod
    def of(cls, query: dict[str, str]) -> Asked:
        given = {n: query.get(n, "")[:1000].replace("\0", "") for n in ("q", "tag")}
        health, mode, handler = (
            query.get("health", ""),
            query.get("mode", ""),
            query.get("handler", ""),
        )
        page = query.get("page", "")
        return cls(
            health=health if health in set(Health) else "",
            mode=mode if kind_named(mode) else "",
            handler="" if whole_number(handler) is None else handler,
            sort=query.get("sort", "name"),
            page=page_number(page),
            **given,
        )

    @property
    def filter(self) -> Filter:
        kind = kind_named(self.mode)
        return Filter(
            q=self.q,
            health=Health(self.health) if self.health else None,
            mode=kind.mode if kind else None,
            tags=(self.tag.strip().casefold(),) if self.tag.strip() else (),
            handler_id=int(self.handler) if self.handler else None,
        )

    def link(self, **changes: str | int) -> str:
        """The address of the list with these changes."""
        query = {name: getattr(self, name) for name in self.__slots__} | changes
        kept = {
            n: v for n, v in query.items() if v and (n, v) not in (("sort", "name"), ("page", 1))
        }
        return "/connections" + (f"?{urlencode(kept)}" if kept else "")


@router.get("", dependencies=[VIEW_PART])
def list_connections(request: Request) -> Response:
    ctx = context_of(request)
    asked = Asked.of(dict(request.query_params))
    if asked.sort.removeprefix("-") not in SORTS:
        asked = replace(asked, sort="name")
    found = search_connections(
        ctx, asked.filter, sort=asked.sort, page=asked.page, per_page=_LISTED
    )
    if found.total and found.page > found.pages:
        # The list was longer when the link was made.
        asked = replace(asked, page=found.pages)
        found = search_connections(
            ctx, asked.filter, sort=asked.sort, page=asked.page, per_page=_LISTED
        )
    part = is_part(request)
    return render(
        request,
        "connections/_list.html" if part else "connections/list.html",
        found=found,
        asked=asked,
        narrowed=asked.filter != Filter(),
        columns=_COLUMNS,
        every=sum(found.counts.values()),
        kinds=[(kind.mode.value, kind.title) for kind in KINDS.values()],
        tags=[] if part else [(tag, f"{tag} ({count})") for tag, count in tags_in_use(ctx).items()],
        handlers={} if part else handler_names(ctx),
    )


@router.get("/pick", dependencies=[VIEW_PART])
def pick(request: Request, q: str = "") -> Response:
    """The options of the picker in the handler's form."""
    found = search_connections(context_of(request), Filter(q=q), per_page=_PICKED)
    return render(request, "connections/_pick.html", found=found)
