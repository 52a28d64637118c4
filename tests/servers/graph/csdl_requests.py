"""Holds requests to Graph to its metadata (`csdl`): path, query options, body."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.servers.graph.csdl import Operation, Schema, Target, Violation, inner_type
from tests.servers.graph.csdl_values import check_entity, check_value

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<time>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))"
    r"|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_@][\w./]*)|(?P<mark>[(),:]))"
)
_COMPARISONS = {"eq", "ne", "gt", "ge", "lt", "le"}


def check_request(
    schema: Schema, method: str, path: str, query: Sequence[tuple[str, str]], body: Any
) -> Target:
    """`path` begins after /v1.0. Returns what the answer must be like."""
    segments = [part for part in path.split("/") if part]
    kind, collection, operation, octets, options = _walk(schema, segments)
    if operation is not None:
        expected = "GET" if operation.function else "POST"
        if method != expected:
            raise Violation(f"{operation.name} is called with {expected}, not {method}")
        if not operation.function:
            _check_parameters(schema, operation, body)
            returns = operation.returns or None
            return Target(inner_type(returns)[0] if returns else None)
    elif method == "PATCH":
        if collection or kind is None or not isinstance(body, Mapping) or not body:
            raise Violation("PATCH changes properties of one entity")
        check_entity(schema, kind, body, partial=True)
    elif method == "DELETE":
        if collection:
            raise Violation("DELETE takes one entity")
        return Target(None)
    elif method != "GET":
        raise Violation(f"{method} {path} is no request of the metadata")
    assert kind is not None
    if octets:
        return Target(None, octets=True)
    return _check_query(schema, kind, collection, query, options)


def _walk(
    schema: Schema, segments: list[str]
) -> tuple[str | None, bool, Operation | None, bool, set[str]]:
    if not segments or segments[0] not in ("users", "me"):
        raise Violation(f"/{'/'.join(segments)} does not begin at a user")
    rest = segments[2:] if segments[0] == "users" else segments[1:]
    kind, collection = "graph.user", False
    options: set[str] = set()
    for position, segment in enumerate(rest):
        last = position + 1 == len(rest)
        name = segment.removeprefix("microsoft.graph.").removesuffix("()")
        operation = schema.operation(name, kind, collection)
        if operation is not None and last:
            returned, many = inner_type(operation.returns) if operation.returns else (None, False)
            return returned, many, operation, False, set(operation.options)
        if collection:
            collection = False  # a key
            options = set()
            continue
        if segment == "$value":
            if not last or not schema.streams(kind):
                raise Violation(f"{kind} has no $value")
            return kind, False, None, True, set()
        navigation = schema.navigation_of(kind)
        if name in navigation:
            kind, collection = inner_type(navigation[name][0])
            options = navigation[name][1]
        elif segment.startswith("microsoft.graph.") and schema.derives(f"graph.{name}", kind):
            kind = f"graph.{name}"
        else:
            raise Violation(f"{kind} has no {segment!r}")
    return kind, collection, None, False, options


def _check_query(
    schema: Schema,
    kind: str,
    collection: bool,
    query: Sequence[tuple[str, str]],
    options: set[str],
) -> Target:
    select: frozenset[str] = frozenset()
    expand: frozenset[str] = frozenset()
    seen = set()
    for name, value in query:
        if name in seen:
            raise Violation(f"{name} is given twice")
        seen.add(name)
        match name:
            case "$select":
                select = frozenset(value.split(","))
                for one in select:
                    schema.property_of(kind, one)
            case "$expand":
                expand = frozenset(_check_expand(schema, kind, value))
            case "$filter" if collection:
                _check_filter(schema, kind, value)
            case "$orderby" if collection:
                for one in value.split(","):
                    words = one.split()
                    schema.property_of(kind, words[0])
                    if words[1:] not in ([], ["asc"], ["desc"]):
                        raise Violation(f"$orderby={value}")
            case "$top" | "$skip" if collection:
                if not value.isdigit() or (name == "$top" and not 1 <= int(value) <= 1000):
                    raise Violation(f"{name}={value}")
            case "$count" if collection:
                if value not in ("true", "false"):
                    raise Violation(f"$count={value}")
            case "$skiptoken" | "$deltatoken" if collection:
                pass
            case _ if name in options:
                pass
            case _:
                raise Violation(f"{name} is no option for {kind}")
    return Target(kind, collection, select, expand)


def _check_expand(schema: Schema, kind: str, value: str) -> list[str]:
    found = re.fullmatch(r"(\w+)(?:\((.*)\))?", value)
    if not found or found[1] not in schema.navigation_of(kind):
        raise Violation(f"$expand={value}")
    inner, _ = inner_type(schema.navigation_of(kind)[found[1]][0])
    for part in filter(None, (found[2] or "").split(";")):
        option, _, text = part.partition("=")
        if option == "$filter":
            _check_filter(schema, inner, text)
        elif option == "$select":
            for one in text.split(","):
                schema.property_of(inner, one)
        else:
            raise Violation(f"$expand={value}")
    return [found[1]]


def _check_filter(schema: Schema, kind: str, text: str) -> None:
    """Comparisons joined with and/or; each property against a literal of its type."""
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if not found:
            raise Violation(f"$filter={text}: {text[at:]!r}")
        group = found.lastgroup or ""
        tokens.append((group, found[group]))
        at = found.end()
    while tokens:
        if len(tokens) < 3 or tokens[0][0] != "word" or tokens[1][1] not in _COMPARISONS:
            raise Violation(f"$filter={text}")
        expected, _ = schema.property_of(kind, tokens[0][1])
        _check_literal(schema, expected, *tokens[2])
        tokens = tokens[3:]
        if tokens:
            if tokens[0][1] not in ("and", "or") or len(tokens) == 1:
                raise Violation(f"$filter={text}")
            tokens = tokens[1:]


def _check_literal(schema: Schema, expected: str, group: str, text: str) -> None:
    fits = {
        "Edm.String": group == "string",
        "Edm.Boolean": group == "word" and text in ("true", "false"),
        "Edm.DateTimeOffset": group == "time",
        "Edm.Int32": group == "number" and "." not in text,
    }.get(expected, expected in schema.enums and group == "string")
    if not fits:
        raise Violation(f"{text} is no literal of {expected}")


def _check_parameters(schema: Schema, operation: Operation, body: Any) -> None:
    given = body or {}
    if not isinstance(given, Mapping):
        raise Violation(f"{operation.name} takes an object")
    for name, value in given.items():
        expected = next(
            (t for n, t in operation.parameters.items() if n.lower() == name.lower()), None
        )
        if expected is None:
            raise Violation(f"{operation.name} has no parameter {name}")
        check_value(schema, expected, value, f"{operation.name}.{name}")
