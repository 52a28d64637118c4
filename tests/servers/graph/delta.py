"""`message: delta`: what changed in a folder, page by page, with the state in tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tests.servers.graph.http import Answer, Refused, Request
from tests.servers.graph.mailboxes import Folder, GraphMailbox, item_row
from tests.servers.graph.rows import link, shown_item

if TYPE_CHECKING:
    from tests.servers.graph import GraphServer


class Deltas:
    """The states that tokens stand for."""

    def __init__(self, server: GraphServer) -> None:
        self._server = server
        self._states: dict[str, dict[str, Any]] = {}

    def options_of(self, token: str | None) -> list[tuple[str, str]] | None:
        """The query options that a state token stands for; None for what is no such token."""
        return list(self._states[token]["query"].items()) if token in self._states else None

    def answer(
        self, request: Request, mailbox: GraphMailbox, folder: Folder, immutable: bool
    ) -> Answer:
        """message: delta. State tokens carry the options of the first request; the page size comes
        by `Prefer: odata.maxpagesize`."""
        query = dict(request.query)
        token = query.get("$skiptoken") or query.get("$deltatoken")
        if token:
            state = self._states.get(token)
            if state is None:
                raise Refused(
                    410,
                    "SyncStateNotFound",
                    "The sync state generation is not found.",
                )
            if "$skiptoken" in query and self._server.forget_state_after == 0:
                self._states.clear()
                self._server.forget_state_after = -1
                raise Refused(410, "SyncStateNotFound", "The sync state generation is not found.")
            self._server.forget_state_after -= "$skiptoken" in query
            if len(query) > 1:
                self._server.note(f"a state token with other options: {query}")
        else:
            if re.search(r"\(.*\$filter", query.get("$expand", "")):
                # Reported: behind a function the URL parser has no type for the nested $filter.
                self._server.note(f"delta with a $filter inside $expand: {query['$expand']}")
                raise Refused(
                    400,
                    "BadRequest",
                    "Parsing OData Select and Expand failed: Value cannot be null. "
                    "(Parameter 'initialState')",
                )
            if "$filter" in query and not re.match(r"receivedDateTime g[et] ", query["$filter"]):
                raise Refused(400, "ErrorInvalidUrlQuery", "Change tracking has no such filter.")
            if query.get("$orderby") not in (None, "receivedDateTime desc"):
                raise Refused(400, "ErrorInvalidUrlQuery", "Change tracking has no such order.")
            ids = [i.id for i in mailbox.in_folder(folder.id)]
            state = {"query": query, "seq": len(mailbox.log), "ids": ids}
        if "$deltatoken" in query:
            state = self._changes(mailbox, folder, state)
        found = re.search(r"odata\.maxpagesize=(\d+)", request.headers.get("prefer", ""))
        size = int(found[1]) if found else 10
        now, later = state["ids"][:size], state["ids"][size:]
        rows: list[dict[str, Any]] = []
        for one in now:
            item = mailbox.items.get(one)
            if item is None or item.folder != folder.id:
                rows.append({"id": one, "@removed": {"reason": "deleted"}})
            else:
                rows.append(shown_item(item, item_row(item), state["query"], immutable))
        if self._server.duplicate_pages and later:
            later = [*now[-3:], *later]  # three rows come twice
        following = {**state, "ids": later}
        name = f"state-{len(self._states)}-{folder.id[-6:]}"
        if self._server.loop_links and token:
            name = token
        self._states[name] = following
        payload: dict[str, Any] = {"value": rows}
        kind = (
            "nextLink"
            if later or self._server.loop_links or self._server.leads_on()
            else "deltaLink"
        )
        parameter = "$skiptoken" if kind == "nextLink" else "$deltatoken"
        payload[f"@odata.{kind}"] = link(self._server.origin, request.path, {parameter: name})
        return Answer(200, payload)

    def _changes(
        self, mailbox: GraphMailbox, folder: Folder, state: Mapping[str, Any]
    ) -> dict[str, Any]:
        wanted = state["query"].get("changeType")
        happened: dict[str, str] = {}
        for where, item_id, kind in mailbox.log[state["seq"] :]:
            if where == folder.id and not (kind == "updated" and item_id in happened):
                happened[item_id] = kind
        ids = [one for one, kind in happened.items() if wanted in (None, kind)]
        return {**state, "seq": len(mailbox.log), "ids": ids}
