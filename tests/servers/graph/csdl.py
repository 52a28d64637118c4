"""Graph's published metadata (OData CSDL 4.0): its types, enumerations and operations.

    schema = Schema.load()
    target = check_request(schema, "GET", "/users/a/mailFolders/inbox/messages", query, body)
    check_answer(schema, target, payload)

`csdl_requests` and `csdl_values` hold requests and answers to it. They raise `Violation` for a
path, property, operator, literal, parameter or value that the metadata does not know. What only the
prose of the documentation forbids is the test server's own part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

_EDM = "{http://docs.oasis-open.org/odata/ns/edm}"


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

    def property_of(self, kind: str, name: str) -> tuple[str, bool]:
        for one in self._lineage(kind):
            if name in one.properties:
                return one.properties[name]
        raise Violation(f"{kind} has no property {name!r}")

    def navigation_of(self, kind: str) -> dict[str, tuple[str, set[str]]]:
        return {
            name: (target, one.options[name])
            for one in reversed(self._lineage(kind))
            for name, target in one.navigation.items()
        }

    def derives(self, kind: str, base: str) -> bool:
        return any(one.name == base for one in self._lineage(kind))

    def streams(self, kind: str) -> bool:
        family = [t for t in self.types if self.derives(t, kind)] + [
            one.name for one in self._lineage(kind)
        ]
        return any(self.types[name].stream for name in family)

    def operation(self, name: str, kind: str, collection: bool) -> Operation | None:
        for one in self.operations:
            bound, many = inner_type(one.binding)
            if one.name == name and many == collection and self.derives(kind, bound):
                return one
        return None


def inner_type(kind: str) -> tuple[str, bool]:
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
