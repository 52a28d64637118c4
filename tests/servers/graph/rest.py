"""The REST rules of Graph's mail part, as documented; each rule names its page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.servers.graph.csdl import Target, Violation
from tests.servers.graph.csdl_requests import check_request
from tests.servers.graph.csdl_values import check_answer, check_error
from tests.servers.graph.delta import Deltas
from tests.servers.graph.http import Answer, Refused, Request, parse_target
from tests.servers.graph.mailboxes import (
    Folder,
    GraphMailbox,
    Item,
    attachment_row,
    folder_row,
    item_row,
    sortable,
)
from tests.servers.graph.rows import link, selected, shown_item

if TYPE_CHECKING:
    from tests.servers.graph import GraphServer

_IMMUTABLE = 'IdType="ImmutableId"'


class Rest:
    def __init__(self, server: GraphServer) -> None:
        self._server = server
        self._deltas = Deltas(server)

    def answer(self, request: Request) -> Answer:
        """One request, checked on its way in and out."""
        try:
            claims = self._authorised(request)
            if request.path == "/v1.0/$batch":
                answer = self._batch(request, claims)
            else:
                answer = self._one(request, claims)
        except Refused as refused:
            answer = refused.answer
        if answer.status >= 400:
            self._checked(lambda: check_error(self._server.schema, answer.payload))
        return answer

    def _authorised(self, request: Request) -> Mapping[str, Any]:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        claims = self._server.claims_of(token)
        if claims is None:
            raise Refused(
                401,
                "InvalidAuthenticationToken",
                "Lifetime validation failed, the token is expired.",
            )
        return claims

    def _batch(self, request: Request, claims: Mapping[str, Any]) -> Answer:
        """Combine multiple HTTP requests using JSON batching: at most 20; each by itself.

        Four of them run at once; those of the four that find no permit are refused, each by itself.
        """
        requests = (request.body or {}).get("requests")
        if not isinstance(requests, list) or not 1 <= len(requests) <= 20:
            raise Refused(400, "BadRequest", "Number of batch request steps exceeds the maximum.")
        if len({str(one.get("id")).lower() for one in requests}) != len(requests):
            raise Refused(400, "BadRequest", "Request id must be unique in the batch.")
        responses = []
        for number, one in enumerate(requests):
            if set(one) - {"id", "method", "url", "headers", "body", "dependsOn"}:
                self._server.note(f"a batch request holds {sorted(one)}")
            headers = {k.lower(): v for k, v in (one.get("headers") or {}).items()}
            if "body" in one and headers.get("content-type") != "application/json":
                raise Refused(400, "BadRequest", "Write request has a body without Content-Type.")
            path, query = parse_target(str(one["url"]))
            inner = Request(one["method"], f"/v1.0{path}", query, headers, one.get("body"))
            fault = self._server.fault_for(inner.method, f"batch:{inner.path}")
            if request.permits <= number < self._server.at_once:
                answer = self._server.throttle()
            elif fault is not None:
                answer = Answer.error(fault.status, fault.code, fault.message)
                if fault.retry_after is not None:
                    answer.headers["Retry-After"] = f"{fault.retry_after:g}"
            else:
                try:
                    answer = self._one(inner, claims)
                except Refused as refused:
                    answer = refused.answer
            response: dict[str, Any] = {"id": one["id"], "status": answer.status}
            if answer.headers:
                response["headers"] = answer.headers
            if answer.payload is not None:
                response["body"] = answer.payload
            responses.append(response)
        # "Individual responses might appear in a different order than the requests."
        return Answer(200, {"responses": responses[::-1]})

    def _one(self, request: Request, claims: Mapping[str, Any]) -> Answer:
        if not request.path.startswith("/v1.0/"):
            raise Refused(400, "BadRequest", "Invalid version.")
        path = request.path.removeprefix("/v1.0")
        if _IMMUTABLE not in request.headers.get("prefer", ""):
            self._server.note(f"{request.method} {path} without {_IMMUTABLE}")
        try:
            target = check_request(
                self._server.schema, request.method, path, request.query, request.body
            )
        except Violation as violation:
            self._server.note(f"{request.method} {path} {request.query}: {violation}")
            raise Refused(400, "BadRequest", str(violation)) from violation
        mailbox = self._mailbox(path, claims)
        token = dict(request.query).get("$skiptoken") or dict(request.query).get("$deltatoken")
        options = self._deltas.options_of(token)
        if options is not None:
            target = check_request(self._server.schema, "GET", path, options, None)
        with mailbox.lock:
            answer = self._route(request, path.split("/")[3:], mailbox, target)
        if answer.status < 400 and answer.content is None:
            self._checked(lambda: check_answer(self._server.schema, target, answer.payload))
        return answer

    def _mailbox(self, path: str, claims: Mapping[str, Any]) -> GraphMailbox:
        """Permissions ("Microsoft Graph permissions reference", Mail)."""
        address = path.split("/")[2].lower()
        mailbox = self._server.mailboxes.get(address)
        if mailbox is None:
            raise Refused(404, "ErrorInvalidUser", f"The requested user '{address}' is invalid.")
        if "roles" in claims:
            policy = self._server.access_policy
            if policy is not None and address not in policy:
                raise Refused(
                    403,
                    "ErrorAccessDenied",
                    "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly "
                    "AccessPolicy settings.",
                )
            allowed = "Mail.ReadWrite" in claims["roles"]
        else:
            own = claims["email"].lower() == address
            scopes = set(str(claims["scp"]).split())
            allowed = (own and bool(scopes & {"Mail.ReadWrite", "Mail.ReadWrite.Shared"})) or (
                claims["email"].lower() in mailbox.delegates and "Mail.ReadWrite.Shared" in scopes
            )
        if not allowed:
            raise Refused(
                403, "ErrorAccessDenied", "Access is denied. Check credentials and try again."
            )
        return mailbox

    # ---- routes below the user

    def _route(
        self, request: Request, parts: Sequence[str], mailbox: GraphMailbox, target: Target
    ) -> Answer:
        query = dict(request.query)
        immutable = _IMMUTABLE in request.headers.get("prefer", "")
        match parts:
            case ["mailFolders"]:
                return self._folders(request, mailbox, "", query)
            case ["mailFolders", key]:
                folder = self._folder(mailbox, key)
                return Answer(200, selected(folder_row(mailbox, folder), query))
            case ["mailFolders", key, "childFolders"]:
                return self._folders(request, mailbox, self._folder(mailbox, key).id, query)
            case ["mailFolders", key, "messages"]:
                return self._messages(request, mailbox, self._folder(mailbox, key), immutable)
            case ["mailFolders", key, "messages", "delta"]:
                return self._deltas.answer(request, mailbox, self._folder(mailbox, key), immutable)
            case ["messages", key, *rest]:
                item = mailbox.find(key)
                if item is None:
                    raise Refused(
                        404,
                        "ErrorItemNotFound",
                        "The specified object was not found in the store.",
                    )
                return self._message(request, mailbox, item, rest, query, immutable)
        raise Refused(400, "BadRequest", f"The test server does not know {request.path}.")

    def _folders(
        self, request: Request, mailbox: GraphMailbox, parent: str, query: Mapping[str, str]
    ) -> Answer:
        """List mailFolders / childFolders: hidden ones only when asked for."""
        rows = [
            folder_row(mailbox, folder)
            for folder in mailbox.folders.values()
            if folder.parent == parent
            and (not folder.hidden or query.get("includeHiddenFolders") == "true")
        ]
        if "$filter" in query:
            found = re.fullmatch(r"displayName eq '((?:[^']|'')*)'", query["$filter"])
            if not found:
                raise Refused(400, "ErrorInvalidUrlQueryFilter", "The query filter is invalid.")
            name = found[1].replace("''", "'").casefold()
            rows = [row for row in rows if row["displayName"].casefold() == name]
        return self._page(request, [selected(row, query) for row in rows])

    def _messages(
        self, request: Request, mailbox: GraphMailbox, folder: Folder, immutable: bool
    ) -> Answer:
        """List messages. "Using filter and orderby in the same query": properties of $orderby
        come first in $filter, in the same order."""
        query = dict(request.query)
        if "singleValueExtendedProperties" in query.get("$expand", ""):
            self._refuse_extended_properties()
        items = mailbox.in_folder(folder.id)
        terms = query["$filter"].split(" and ") if "$filter" in query else []
        order = query.get("$orderby", "").split()
        if terms and order and not (self._server.sorts and terms[0].startswith(order[0])):
            raise Refused(400, "InefficientFilter", "The restriction or sort order is too complex.")
        rows = [(item, sortable(item)) for item in items]
        for term in terms:
            rows = [(item, row) for item, row in rows if _holds(row, term)]
        key = order[0] if order else "receivedDateTime"
        descending = order[1:] == ["desc"] if order else True
        rows.sort(key=lambda pair: (pair[1][key], pair[0].number), reverse=descending)
        answer = self._page(request, [item for item, _ in rows])
        answer.payload["value"] = [
            shown_item(item, item_row(item), query, immutable) for item in answer.payload["value"]
        ]
        return answer

    def _refuse_extended_properties(self) -> None:
        """Reported of Graph at 21Vianet."""
        if not self._server.extended_properties:
            raise Refused(
                400,
                "BadRequest",
                "Parsing OData Select and Expand failed: Could not find a property named "
                "'singleValueExtendedProperties' on type 'microsoft.graph.message'.",
            )

    def _page(self, request: Request, rows: Sequence[Any]) -> Answer:
        """Paging: $top (10 where none), @odata.nextLink with $skip: what leaves the filter between
        two pages shifts the later ones."""
        query = dict(request.query)
        size, skip = int(query.get("$top", 10)), int(query.get("$skip", 0))
        payload: dict[str, Any] = {
            "@odata.context": f"{self._server.origin}/v1.0/$metadata#Collection(message)",
            "value": list(rows[skip : skip + size]),
        }
        goes_on = (self._server.loop_links and rows) or self._server.leads_on()
        if skip + size < len(rows) or goes_on:
            query["$skip"] = str(skip if self._server.loop_links else skip + size)
            if self._server.duplicate_pages and skip + size < len(rows):
                query["$skip"] = str(max(0, skip + size - 3))  # three rows come twice
            payload["@odata.nextLink"] = link(self._server.origin, request.path, query)
        return Answer(200, payload)

    def _message(
        self,
        request: Request,
        mailbox: GraphMailbox,
        item: Item,
        rest: Sequence[str],
        query: Mapping[str, str],
        immutable: bool,
    ) -> Answer:
        match request.method, rest:
            case "GET", []:
                return Answer(200, shown_item(item, item_row(item), query, immutable))
            case "GET", ["$value"]:
                if item.mime is None:
                    raise Refused(*item.mime_error)
                return Answer(200, content=item.mime)
            case "GET", ["attachments"]:
                rows = [attachment_row(n, one) for n, one in enumerate(item.attachments)]
                return self._page(request, [selected(row, query) for row in rows])
            case "GET", ["attachments", key, "$value"]:
                for number, one in enumerate(item.attachments):
                    if attachment_row(number, one)["id"] == key:
                        if one.kind == "referenceAttachment":
                            raise Refused(405, "ErrorInvalidRequest", "It has no content.")
                        return Answer(200, content=one.content)
                raise Refused(404, "ErrorItemNotFound", "The attachment was not found.")
            case "PATCH", []:
                if set(request.body) != {"isRead"}:
                    self._server.note(f"PATCH of {sorted(request.body)}")
                mailbox.mark(item.id, bool(request.body["isRead"]))
                return Answer(200, shown_item(item, item_row(item), {}, immutable))
            case "DELETE", []:
                if item.folder == mailbox.deleted:
                    mailbox.remove(item.id)
                else:
                    mailbox.move(item.id, mailbox.deleted)
                return Answer(204)
            case "POST", ["permanentDelete"]:
                if not self._server.permanent_delete:
                    raise Refused(
                        400,
                        "BadRequest",
                        "Resource not found for the segment 'permanentDelete'.",
                    )
                mailbox.remove(item.id)
                return Answer(204)
        raise Refused(405, "Request_BadRequest", "Specified HTTP method is not allowed.")

    # ---- rows

    def _folder(self, mailbox: GraphMailbox, key: str) -> Folder:
        """By id, or by well-known name ("mailFolder resource type")."""
        known = {"inbox": mailbox.inbox, "deleteditems": mailbox.deleted}
        folder = mailbox.folders.get(known.get(key.lower(), key))
        if folder is None:
            raise Refused(
                404, "ErrorItemNotFound", "The specified object was not found in the store."
            )
        return folder

    def _checked(self, check: Any) -> None:
        try:
            check()
        except Violation as violation:
            self._server.note(f"the test server answered wrongly: {violation}")


def _holds(row: Mapping[str, Any], term: str) -> bool:
    name, operator, text = term.strip("() ").split(" ", 2)
    value = row[name]
    wanted: Any = text.strip("'") if text[0] in "'0123456789" else json.loads(text)
    return bool(
        {
            "eq": value == wanted,
            "ge": value >= wanted,
            "gt": value > wanted,
            "le": value <= wanted,
            "lt": value < wanted,
        }[operator]
    )
