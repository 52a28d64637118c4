"""Rows of Graph's answers as a request wants them: selected, expanded, with either kind of id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from tests.servers.graph.mailboxes import Item

_SIZE = "integer 0x0e08"


def shown_item(
    item: Item, row: Mapping[str, Any], query: Mapping[str, str], immutable: bool
) -> dict[str, Any]:
    chosen = selected(row, query)
    chosen["id"] = item.id if immutable else item.mutable_id
    if item.kind != "message":
        chosen["@odata.type"] = f"#microsoft.graph.{item.kind}"
    expand = query.get("$expand", "")
    if expand.startswith("singleValueExtendedProperties") and _SIZE in expand.lower():
        one = {"id": "Integer 0xe08", "value": str(item.stored_size)}
        chosen["singleValueExtendedProperties"] = [one]
    return chosen


def link(origin: str, path: str, query: Mapping[str, str]) -> str:
    return f"{origin}{quote(path)}?{urlencode(query, quote_via=quote)}"


def selected(row: Mapping[str, Any], query: Mapping[str, str]) -> dict[str, Any]:
    if "$select" not in query:
        return dict(row)
    wanted = {*query["$select"].split(","), "id"}
    return {k: v for k, v in row.items() if k in wanted or k.startswith("@odata.")}
