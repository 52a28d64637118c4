"""What a route needs: declared at the route, checked before it runs, missing nowhere.

Each route of API and pages has one of the dependencies below (`dependencies=[OPERATE]`). An
application with a route that has none is refused when it is built, so a new route is closed until
somebody has said who may use it. Who asks is found out before (`auth.authentication`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from anyio import to_thread
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.requests import HTTPConnection, Request

from shared.errors import NotFound, PosthouseError
from shared.people import Permission, Principal


class NotAllowed(PosthouseError):
    """Who asks is known, and may not do this."""

    code = "not-allowed"


@dataclass(frozen=True, slots=True)
class Needs:
    """The dependency of a route. `permission` None: everybody may, also who is not known.

    `handlers`: a handler's token opens this route too; whose mail it is, the operation checks.
    `parts`: who has rights by tag comes in, too. What the parameters name is checked here; a list
    shows their part alone, and what a body names the operation checks. Other routes are closed to
    them.
    `links`: who came by a link that authorises a mailbox comes in, and without a permission nobody
    else.
    """

    permission: Permission | None
    handlers: bool = False
    parts: bool = False
    links: bool = False

    async def __call__(self, request: Request) -> None:
        """Raises NotAllowed."""
        if self.permission is None and not self.links:
            return
        principal = principal_of(request)
        if principal.link_id is not None:
            if not self.links:
                raise NotAllowed("This link opens its own page only.")
        elif self.permission is None:
            raise NotAllowed("This page is opened by a link.")
        elif principal.handler_id is not None:
            if not self.handlers:
                raise NotAllowed(
                    "A handler's token opens its own mails only.",
                    hint="They are at /api/v1/messages/{id}/raw, …/parts and …/parts/{path}.",
                )
        elif not principal.may(self.permission):
            raise NotAllowed(
                f"The role {principal.role} may not do this.",
                hint="Ask an administrator of Posthouse for another role.",
            )
        elif principal.tags:
            await self._check_part(request, principal)

    async def _check_part(self, request: Request, principal: Principal) -> None:
        if not self.parts:
            raise NotAllowed(
                "Your rights are for some connections only.",
                hint="Ask somebody who sees all of them.",
            )
        named = [(name, str(value)) for name, value in request.path_params.items()]
        named += request.query_params.multi_items()
        sees = request.state.principals.sees
        if not await to_thread.run_sync(sees, principal, named):
            raise NotFound("There is no such thing (any more).")


PUBLIC: Final[Any] = Depends(Needs(None))
VIEW: Final[Any] = Depends(Needs(Permission.VIEW))
VIEW_PART: Final[Any] = Depends(Needs(Permission.VIEW, parts=True))
READ_MAIL_OF_PART: Final[Any] = Depends(Needs(Permission.READ_MAIL, parts=True))
READ_OWN_MAIL: Final[Any] = Depends(Needs(Permission.READ_MAIL, handlers=True, parts=True))
BY_LINK: Final[Any] = Depends(Needs(None, links=True))
OPERATE: Final[Any] = Depends(Needs(Permission.OPERATE))
OPERATE_ON_PART: Final[Any] = Depends(Needs(Permission.OPERATE, parts=True))
OPERATE_ON_PART_OR_LINK: Final[Any] = Depends(Needs(Permission.OPERATE, parts=True, links=True))
ADMINISTER: Final[Any] = Depends(Needs(Permission.ADMINISTER))


def principal_of(request: HTTPConnection) -> Principal:
    """Who makes this request. Only for paths that are not public."""
    principal: Principal = request.state.principal
    return principal


@dataclass(frozen=True, slots=True)
class Declared:
    """A route with what it needs. `path` is its template, with the prefixes of its routers."""

    path: str
    methods: frozenset[str]
    needs: Needs


def declared(app: FastAPI) -> list[Declared]:
    """Every route of an application. Raises RuntimeError where one declares nothing, or more than
    one thing."""
    found = []
    for context in iter_route_contexts(app.routes):
        if not isinstance(context.original_route, APIRoute):
            continue  # static files, and the OpenAPI document, which holds no secret
        path, methods = str(context.path), frozenset(context.methods or ())
        needs = [d.dependency for d in context.dependencies if isinstance(d.dependency, Needs)]
        if len(needs) != 1:
            raise RuntimeError(
                f"{sorted(methods)} {path} declares {len(needs)} permissions; it must have exactly "
                "one of those in services.admin.auth.route_permissions."
            )
        found.append(Declared(path, methods, needs[0]))
    return found
