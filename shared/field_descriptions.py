"""One description a field: what it may hold, what it is called, and who has it.

A value is a dataclass whose fields say so in their annotations: limits in pydantic's words, the
rest in `About`. What people give is checked by these annotations (`Described.parse`), and forms,
API, command line and files are made of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from shared.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a field is beside its type and limits.

    `label` is what pages call it, `help` what the API says of it, `unit` what a number counts.
    `feature` is what a kind of mailbox must have for it (`shared.kinds`), empty where all have it.
    `estimates`: a change asks for the acknowledgement of an estimate again. `unset`: None stands
    for a default that depends on other fields. `needed`: whoever adds a value has to give it.
    """

    label: str = ""
    help: str = ""
    unit: str = "a whole number"
    feature: str = ""
    estimates: bool = False
    secret: bool = False
    unset: bool = False
    needed: bool = False


@dataclass(frozen=True, slots=True)
class FormatText:
    """A text: without control characters, `lines` with line breaks and tabs, `strip` without the
    spaces at its ends. A line break elsewhere, in a username, would be a protocol command."""

    lines: bool = False
    strip: bool = True

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        checked = core_schema.no_info_after_validator_function(self._check, handler(source))
        return core_schema.no_info_before_validator_function(self._tidy, checked)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        return found if self.lines else {**found, "pattern": _PATTERN}

    def _tidy(self, value: Any) -> Any:
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "is a text.")
        found = value.replace("\r\n", "\n")
        return found.strip() if self.strip else found

    def _check(self, value: str) -> str:
        for c in value:
            if (ord(c) < 32 or ord(c) == 127) and not (self.lines and c in "\n\t"):
                raise PydanticCustomError("text", "holds a control character.")
        return value


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret as it was given, unstripped."""

    lines: bool = False

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise PydanticCustomError("string_type", "is a text.")
        forbidden = "\0" if self.lines else "\0\r\n"
        if any(c in forbidden or 0xD800 <= ord(c) < 0xE000 for c in value):
            raise PydanticCustomError("text", "holds a character that no login can carry.")
        return value


@dataclass(frozen=True, slots=True)
class Empty:
    """`value` stands for what was left empty: None, an empty text, and what is in `other`."""

    value: Any = None
    other: tuple[Any, ...] = ()

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._wrap, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema)

    def _wrap(self, value: Any, handler: Any) -> Any:
        empty = value is None or value == "" or any(value == one for one in self.other)
        return self.value if empty else handler(value) or self.value


_PATTERN: Final = r"^[^\u0000-\u001f\u007f]*$"
LINE: Final = FormatText()
LINES: Final = FormatText(lines=True)
Whole = Annotated[int, Strict()]
Truth = Annotated[bool, Strict()]
Id = Annotated[int, Strict(), Field(ge=1, le=2**63 - 1)]
#: Ids, each once, rising.
Ids = Annotated[tuple[Id, ...], AfterValidator(lambda ids: tuple(sorted(set(ids))))]


@dataclass(frozen=True, slots=True)
class Described:
    """A field as its annotation says; `kind` is the type without None and annotations."""

    name: str
    annotation: Any
    kind: type
    about: About
    default: Any
    adapter: TypeAdapter[Any]

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    @property
    def items(self) -> type | None:
        """What a list holds; None for what is no list."""
        if self.kind is not tuple:
            return None
        annotation = self.annotation
        while get_origin(annotation) is not tuple:
            annotation = next(one for one in get_args(annotation) if one is not type(None))
        return _bare(get_args(annotation)[0])

    def parse(self, value: Any) -> Any:
        """What somebody gave, checked and made a value. Raises InvalidInput that names the field;
        so may the field's own checks."""
        try:
            return self.adapter.validate_python(value, context={"field": self.name})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise InvalidInput(
                f"{self.name!r} {self._said(first['type'], first['msg'])}", field=self.name
            ) from error

    def _said(self, kind: str, message: str) -> str:
        limits = _limits(self.annotation)
        if words := words_of(self.kind):
            return f"is one of: {', '.join(words)}."
        match kind:
            case "text":
                return message
            case "string_type":
                return "is a text."
            case "string_unicode":
                return "holds half a character."
            case "string_too_short" | "too_short":
                return "is empty."
            case "string_too_long" | "too_long":
                return f"is longer than {limits['max_length']} characters."
            case "bool_type":
                return "is true or false."
            case "tuple_type":
                return "is a list of ids."
            case _:
                return f"is {self.about.unit} from {limits['ge']} to {limits['le']}."


@cache
def fields_of(value: type) -> Mapping[str, Described]:
    """The described fields of a dataclass, by name, in their order."""
    hints = get_type_hints(value, include_extras=True)
    found = {}
    for one in dataclasses.fields(value):
        about = next((m for m in _metadata(hints[one.name]) if isinstance(m, About)), None)
        if about is None:
            continue
        default = one.default
        if one.default_factory is not dataclasses.MISSING:
            default = one.default_factory()
        annotation = hints[one.name]
        found[one.name] = Described(
            one.name, annotation, _bare(annotation), about, default, TypeAdapter(annotation)
        )
    return MappingProxyType(found)


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _bare(annotation: Any) -> type:
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    found: type = get_origin(annotation) or annotation
    return found


def _limits(annotation: Any) -> dict[str, Any]:
    """`ge`, `le` and `max_length`, however deep they stand."""
    found: dict[str, Any] = {}
    for one in _metadata(annotation):
        for limit in one.metadata if isinstance(one, FieldInfo) else [one]:
            if isinstance(limit, Ge):
                found["ge"] = limit.ge
            elif isinstance(limit, Le):
                found["le"] = limit.le
            elif (longest := getattr(limit, "max_length", None)) is not None:
                found["max_length"] = longest
    for inner in get_args(annotation)[: 1 if _metadata(annotation) else None]:
        if inner is not type(None) and inner is not Ellipsis:
            found = _limits(inner) | found
    return found


def words_of(kind: type) -> list[str]:
    """The words of a choice; empty for other types."""
    return [str(word) for word in kind] if issubclass(kind, StrEnum) else []
