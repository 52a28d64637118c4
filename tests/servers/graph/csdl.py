"""Checks requests to Graph and its answers against the published metadata (OData CSDL 4.0).

    schema = Schema.load()
    target = schema.check_request("GET", "/users/a/mailFolders/inbox/messages", query, body)
    schema.check_answer(target, payload)

Raises `Violation` for a path, property, operator, literal, parameter or value that the metadata
does not know. What only the prose of the documentation forbids is the test server's own part.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

_EDM = "{http://docs.oasis-open.org/odata/ns/edm}"
_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<time>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))"
    r"|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_@][\w./]*)|(?P<mark>[(),:]))"
)
_COMPARISONS = {"eq", "ne", "gt", "ge", "lt", "le"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z\Z")


class Violation(AssertionError):
    """Something that the metadata does not know."""


@dataclass
class Type:
    name: str
    base: str = ""
    abstract: bool = False
    stream: bool = False
    entity: bool = False
    properties: dict[str, tuple[str, bool]] = field(default_factory=dict)  # type, nullable
    navigation: dict[str, str] = field(default_factory=dict)
    options: dict[str, set[str]] = field(default_factory=dict)  # custom query options by navigation


@dataclass(frozen=True)
class Operation:
    name: str
    binding: str
    parameters: Mapping[str, str]
    returns: str
    function: bool
    options: frozenset[str]


@dataclass(frozen=True)
class Target:
    """What a request asks for: `type` of the answer, one or a collection; None: no JSON."""

    type: str | None
    collection: bool = False
    select: frozenset[str] = frozenset()
    expand: frozenset[str] = frozenset()
    octets: bool = False


class Schema:
    def __init__(self, text: bytes) -> None:
        self.types: dict[str, Type] = {}
        self.enums: dict[str, set[str]] = {}
        self.operations: list[Operation] = []
        for element in ElementTree.fromstring(text):
            self._read(element)

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> Schema:
        return cls((Path(__file__).parent / "mail.csdl.xml").read_bytes())

    # ---- requests

    def check_request(
        self, method: str, path: str, query: Sequence[tuple[str, str]], body: Any
    ) -> Target:
        """`path` begins after /v1.0. Returns what the answer must be like."""
        segments = [part for part in path.split("/") if part]
        kind, collection, operation, octets, options = self._walk(segments)
        if operation is not None:
            expected = "GET" if operation.function else "POST"
            if method != expected:
                raise Violation(f"{operation.name} is called with {expected}, not {method}")
            if not operation.function:
                self._check_parameters(operation, body)
                returns = operation.returns or None
                return Target(_inner(returns)[0] if returns else None)
        elif method == "PATCH":
            if collection or kind is None or not isinstance(body, Mapping) or not body:
                raise Violation("PATCH changes properties of one entity")
            self._check_entity(kind, body, partial=True)
        elif method == "DELETE":
            if collection:
                raise Violation("DELETE takes one entity")
            return Target(None)
        elif method != "GET":
            raise Violation(f"{method} {path} is no request of the metadata")
        assert kind is not None
        if octets:
            return Target(None, octets=True)
        return self._check_query(kind, collection, query, options)

    def _walk(
        self, segments: list[str]
    ) -> tuple[str | None, bool, Operation | None, bool, set[str]]:
        if not segments or segments[0] not in ("users", "me"):
            raise Violation(f"/{'/'.join(segments)} does not begin at a user")
        rest = segments[2:] if segments[0] == "users" else segments[1:]
        kind, collection = "graph.user", False
        options: set[str] = set()
        for position, segment in enumerate(rest):
            last = position + 1 == len(rest)
            name = segment.removeprefix("microsoft.graph.").removesuffix("()")
            operation = self._operation(name, kind, collection)
            if operation is not None and last:
                returned, many = _inner(operation.returns) if operation.returns else (None, False)
                return returned, many, operation, False, set(operation.options)
            if collection:
                collection = False  # a key
                options = set()
                continue
            if segment == "$value":
                if not last or not self._streams(kind):
                    raise Violation(f"{kind} has no $value")
                return kind, False, None, True, set()
            navigation = self._navigation(kind)
            if name in navigation:
                kind, collection = _inner(navigation[name][0])
                options = navigation[name][1]
            elif segment.startswith("microsoft.graph.") and self._derives(f"graph.{name}", kind):
                kind = f"graph.{name}"
            else:
                raise Violation(f"{kind} has no {segment!r}")
        return kind, collection, None, False, options

    def _check_query(
        self,
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
                        self._property(kind, one)
                case "$expand":
                    expand = frozenset(self._check_expand(kind, value))
                case "$filter" if collection:
                    self._check_filter(kind, value)
                case "$orderby" if collection:
                    for one in value.split(","):
                        words = one.split()
                        self._property(kind, words[0])
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

    def _check_expand(self, kind: str, value: str) -> list[str]:
        found = re.fullmatch(r"(\w+)(?:\((.*)\))?", value)
        if not found or found[1] not in self._navigation(kind):
            raise Violation(f"$expand={value}")
        inner, _ = _inner(self._navigation(kind)[found[1]][0])
        for part in filter(None, (found[2] or "").split(";")):
            option, _, text = part.partition("=")
            if option == "$filter":
                self._check_filter(inner, text)
            elif option == "$select":
                for one in text.split(","):
                    self._property(inner, one)
            else:
                raise Violation(f"$expand={value}")
        return [found[1]]

    def _check_filter(self, kind: str, text: str) -> None:
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
            expected, _ = self._property(kind, tokens[0][1])
            self._check_literal(expected, *tokens[2])
            tokens = tokens[3:]
            if tokens:
                if tokens[0][1] not in ("and", "or") or len(tokens) == 1:
                    raise Violation(f"$filter={text}")
                tokens = tokens[1:]

    def _check_literal(self, expected: str, group: str, text: str) -> None:
        fits = {
            "Edm.String": group == "string",
            "Edm.Boolean": group == "word" and text in ("true", "false"),
            "Edm.DateTimeOffset": group == "time",
            "Edm.Int32": group == "number" and "." not in text,
        }.get(expected, expected in self.enums and group == "string")
        if not fits:
            raise Violation(f"{text} is no literal of {expected}")

    def _check_parameters(self, operation: Operation, body: Any) -> None:
        given = body or {}
        if not isinstance(given, Mapping):
            raise Violation(f"{operation.name} takes an object")
        for name, value in given.items():
            expected = next(
                (t for n, t in operation.parameters.items() if n.lower() == name.lower()), None
            )
            if expected is None:
                raise Violation(f"{operation.name} has no parameter {name}")
            self._check_value(expected, value, f"{operation.name}.{name}")

    # ---- answers

    def check_answer(self, target: Target, payload: Any) -> None:
        """A successful JSON answer."""
        if target.type is None:
            if payload not in (None, {}):
                raise Violation("an answer without content has content")
            return
        if not isinstance(payload, Mapping):
            raise Violation("an answer is a JSON object")
        if not target.collection:
            self._check_entity(target.type, payload, select=target.select, expand=target.expand)
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
            self._check_entity(target.type, row, select=target.select, expand=target.expand)

    def check_error(self, payload: Any) -> None:
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

    def _check_entity(
        self,
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
            if not self._derives(derived, kind):
                raise Violation(f"{named} is no {kind}")
            kind = derived
        elif self.types[kind].abstract:
            raise Violation(f"{kind} is abstract: the answer says which type it is")
        navigation = self._navigation(kind)
        for name, item in value.items():
            plain = name.partition("@")[0]
            if name.startswith("@odata.") or "@odata." in name:
                if plain and plain not in navigation:
                    self._property(kind, plain)
                continue
            if name in navigation:
                if partial or name not in expand:
                    raise Violation(f"{name} was not expanded")
                inner, many = _inner(navigation[name][0])
                for row in item if many else [item]:
                    self._check_entity(inner, row)
                continue
            expected, nullable = self._property(kind, name)
            if select and name not in select and name != "id":
                raise Violation(f"{name} was not selected")
            if item is None:
                if not nullable:
                    raise Violation(f"{kind}.{name} is never null")
                continue
            self._check_value(expected, item, f"{kind}.{name}")
        if not partial and self.types[kind].entity and not isinstance(value.get("id"), str):
            raise Violation(f"{kind} without id")

    def _check_value(self, expected: str, value: Any, where: str) -> None:
        inner, many = _inner(expected)
        if many:
            if not isinstance(value, list):
                raise Violation(f"{where} is a list")
            for item in value:
                self._check_value(inner, item, where)
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
            case _ if inner in self.enums:
                ok = value in self.enums[inner]
            case _ if inner in self.types:
                ok = isinstance(value, Mapping)
                if ok:
                    self._check_entity(inner, value)
        if not ok:
            raise Violation(f"{where}: {value!r} is no {inner}")

    # ---- the metadata

    def _read(self, element: ElementTree.Element) -> None:
        tag, name = element.tag.removeprefix(_EDM), element.get("Name", "")
        if tag in ("EntityType", "ComplexType"):
            one = Type(
                f"graph.{name}",
                element.get("BaseType", ""),
                element.get("Abstract") == "true",
                element.get("HasStream") == "true",
                tag == "EntityType",
            )
            for child in element:
                kind = child.tag.removeprefix(_EDM)
                if kind == "Property":
                    nullable = child.get("Nullable") != "false"
                    one.properties[child.get("Name", "")] = (child.get("Type", ""), nullable)
                elif kind == "NavigationProperty":
                    one.navigation[child.get("Name", "")] = child.get("Type", "")
                    one.options[child.get("Name", "")] = _custom_options(child)
            self.types[one.name] = one
        elif tag == "EnumType":
            self.enums[f"graph.{name}"] = {child.get("Name", "") for child in element}
        elif tag in ("Action", "Function"):
            parameters = {
                p.get("Name", ""): p.get("Type", "") for p in element.findall(f"{_EDM}Parameter")
            }
            binding = next(n for n in parameters if n.lower() == "bindingparameter")
            returned = element.find(f"{_EDM}ReturnType")
            self.operations.append(
                Operation(
                    name,
                    parameters.pop(binding),
                    parameters,
                    "" if returned is None else returned.get("Type", ""),
                    tag == "Function",
                    frozenset(_custom_options(element)),
                )
            )

    def _lineage(self, kind: str) -> list[Type]:
        found = []
        while kind in self.types:
            found.append(self.types[kind])
            kind = self.types[kind].base
        return found

    def _property(self, kind: str, name: str) -> tuple[str, bool]:
        for one in self._lineage(kind):
            if name in one.properties:
                return one.properties[name]
        raise Violation(f"{kind} has no property {name!r}")

    def _navigation(self, kind: str) -> dict[str, tuple[str, set[str]]]:
        return {
            name: (target, one.options[name])
            for one in reversed(self._lineage(kind))
            for name, target in one.navigation.items()
        }

    def _derives(self, kind: str, base: str) -> bool:
        return any(one.name == base for one in self._lineage(kind))

    def _streams(self, kind: str) -> bool:
        family = [t for t in self.types if self._derives(t, kind)] + [
            one.name for one in self._lineage(kind)
        ]
        return any(self.types[name].stream for name in family)

    def _operation(self, name: str, kind: str, collection: bool) -> Operation | None:
        for one in self.operations:
            bound, many = _inner(one.binding)
            if one.name == name and many == collection and self._derives(kind, bound):
                return one
        return None


def _inner(kind: str) -> tuple[str, bool]:
    found = re.fullmatch(r"Collection\((.+)\)", kind)
    return (found[1], True) if found else (kind, False)


def _custom_options(element: ElementTree.Element) -> set[str]:
    names = set()
    for value in element.iter(f"{_EDM}PropertyValue"):
        if value.get("Property") == "CustomQueryOptions":
            names |= {
                str(inner.get("String"))
                for inner in value.iter(f"{_EDM}PropertyValue")
                if inner.get("Property") == "Name"
            }
    return names
