"""API classes that are made of the one description of a value, not written a second time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import BaseModel, Field, WithJsonSchema, create_model

from shared.field_descriptions import Described, fields_of, words_of
from shared.kinds import Feature, kinds_with

M = TypeVar("M", bound=BaseModel)


def output_of(*values: type, without: tuple[str, ...] = ()) -> Callable[[type[M]], type[M]]:
    """Adds the fields of these dataclasses, as they are shown; what the class has itself stays."""

    def decorate(model: type[M]) -> type[M]:
        fields: dict[str, Any] = {}
        for value in values:
            hints = get_type_hints(value)
            for one in dataclasses.fields(value):
                if one.name not in model.model_fields and one.name not in without:
                    fields[one.name] = (hints[one.name], ...)
        return _with(model, fields)

    return decorate


def values_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass by name, as they are: for answers of several values."""
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def input_of(*values: type) -> Callable[[type[M]], type[M]]:
    """Adds the described fields of these dataclasses, as people give them."""

    def decorate(model: type[M]) -> type[M]:
        found = {n: one for value in values for n, one in fields_of(value).items()}
        given = {n: _field_of(one) for n, one in found.items() if n not in model.model_fields}
        return _with(model, given)

    return decorate


def _with(model: type[M], fields: dict[str, Any]) -> type[M]:
    return create_model(
        model.__name__,
        __base__=model,
        __doc__=model.__doc__,
        __module__=model.__module__,
        **fields,
    )


def _field_of(one: Described) -> Any:
    annotation = one.annotation
    if words := words_of(one.kind):
        annotation = Annotated[one.kind, WithJsonSchema({"type": "string", "enum": words})]
    who = ""
    if one.about.feature:
        who = ", ".join(kind.mode for kind in kinds_with(Feature(one.about.feature)))
    description = "; ".join(text for text in (who, one.about.help) if text) or None
    if one.required or one.about.needed:
        return annotation, Field(description=description)
    if one.about.unset:
        return annotation | None, Field(default=None, description=description)
    return annotation, Field(default=one.default, description=description)
