"""Holds Graph's answers, and the values in bodies of requests, to its metadata (`csdl`)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from tests.servers.graph.csdl import Schema, Target, Violation, inner_type

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z\Z")


def check_answer(schema: Schema, target: Target, payload: Any) -> None:
    """A successful JSON answer."""
    if target.type is None:
        if payload not in (None, {}):
            raise Violation("an answer without content has content")
        return
    if not isinstance(payload, Mapping):
        raise Violation("an answer is a JSON object")
    if not target.collection:
        check_entity(schema, target.type, payload, select=target.select, expand=target.expand)
        return
    for name in payload:
        if name != "value" and not name.startswith("@odata."):
            raise Violation(f"a collection has no {name!r}")
    for name in ("@odata.nextLink", "@odata.deltaLink"):
        if name in payload and not str(payload[name]).startswith("https://"):
            raise Violation(f"{name} is no link")
    if "@odata.nextLink" in payload and "@odata.deltaLink" in payload:
        raise Violation("a page has either a next link or a delta link")
    for row in payload["value"]:
        if "@removed" in row:
            if set(row) - {"id", "@removed", "@odata.type"} or "reason" not in row["@removed"]:
                raise Violation(f"a removed item holds {sorted(row)}")
            continue
        check_entity(schema, target.type, row, select=target.select, expand=target.expand)


def check_error(schema: Schema, payload: Any) -> None:
    """{"error": {"code", "message", "innerError"}} (Microsoft Graph error responses)."""
    error = payload.get("error") if isinstance(payload, Mapping) else None
    if not isinstance(error, Mapping) or set(error) - {
        "code",
        "message",
        "innerError",
        "details",
    }:
        raise Violation(f"{payload} is no error answer")
    if not isinstance(error.get("code"), str) or not isinstance(error.get("message"), str):
        raise Violation(f"{payload} is no error answer")


def check_entity(
    schema: Schema,
    kind: str,
    value: Mapping[str, Any],
    *,
    partial: bool = False,
    select: frozenset[str] = frozenset(),
    expand: frozenset[str] = frozenset(),
) -> None:
    named = value.get("@odata.type")
    if named is not None:
        derived = str(named).removeprefix("#microsoft.")
        if not schema.derives(derived, kind):
            raise Violation(f"{named} is no {kind}")
        kind = derived
    elif schema.types[kind].abstract:
        raise Violation(f"{kind} is abstract: the answer says which type it is")
    navigation = schema.navigation_of(kind)
    for name, item in value.items():
        plain = name.partition("@")[0]
        if name.startswith("@odata.") or "@odata." in name:
            if plain and plain not in navigation:
                schema.property_of(kind, plain)
            continue
        if name in navigation:
            if partial or name not in expand:
                raise Violation(f"{name} was not expanded")
            inner, many = inner_type(navigation[name][0])
            for row in item if many else [item]:
                check_entity(schema, inner, row)
            continue
        expected, nullable = schema.property_of(kind, name)
        if select and name not in select and name != "id":
            raise Violation(f"{name} was not selected")
        if item is None:
            if not nullable:
                raise Violation(f"{kind}.{name} is never null")
            continue
        check_value(schema, expected, item, f"{kind}.{name}")
    if not partial and schema.types[kind].entity and not isinstance(value.get("id"), str):
        raise Violation(f"{kind} without id")


def check_value(schema: Schema, expected: str, value: Any, where: str) -> None:
    inner, many = inner_type(expected)
    if many:
        if not isinstance(value, list):
            raise Violation(f"{where} is a list")
        for item in value:
            check_value(schema, inner, item, where)
        return
    ok = True
    match inner:
        case "Edm.String":
            ok = isinstance(value, str)
        case "Edm.Boolean":
            ok = isinstance(value, bool)
        case "Edm.Int32":
            ok = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
        case "Edm.DateTimeOffset":
            ok = isinstance(value, str) and bool(_TIME.match(value))
        case "Edm.Binary":
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, TypeError, ValueError):
                ok = False
        case _ if inner in schema.enums:
            ok = value in schema.enums[inner]
        case _ if inner in schema.types:
            ok = isinstance(value, Mapping)
            if ok:
                check_entity(schema, inner, value)
    if not ok:
        raise Violation(f"{where}: {value!r} is no {inner}")
