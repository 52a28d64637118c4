"""What the answers and bodies of several resources are made of."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from shared.connection_field_checks import LONGEST_TAG, MOST_TAGS

T = TypeVar("T")
Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
HealthWord = Literal[
    "working", "failing", "unused", "disabled", "needs-authorisation", "pending", "overdue"
]
#: Texts as Postgres takes them.
Text = Annotated[str, Field(pattern=r"^[^\u0000-\u001f\u007f]*$")]

Tags = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=LONGEST_TAG)]], Field(max_length=MOST_TAGS)
]


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PageOut(BaseModel, Generic[T]):
    """One page of a list; `total` counts all that match."""

    items: list[T]
    total: int
    page: int
    per_page: int
    counts: dict[str, int] | None = None


class NamedOut(Out):
    id: int
    name: str


class CountOut(BaseModel):
    count: int


def described(model: type[BaseModel], *, partial: bool = False) -> Any:
    """A JSON object that the operations check, described by `model`; `partial` needs nothing."""
    schema = _whole(model.model_json_schema())
    if partial:
        schema.pop("required", None)
        schema.pop("examples", None)
        for field in schema["properties"].values():
            field.pop("default", None)
    return Annotated[dict[str, Any], WithJsonSchema(schema)]


def _whole(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with its definitions where they are referred to: as a part of the OpenAPI document
    it has no `$defs` of its own."""
    definitions = schema.pop("$defs", {})

    def put_in(node: Any) -> Any:
        if isinstance(node, dict):
            name = str(node.get("$ref", "")).removeprefix("#/$defs/")
            found = {**definitions[name], **node} if name in definitions else node
            return {key: put_in(value) for key, value in found.items() if key != "$ref"}
        return [put_in(one) for one in node] if isinstance(node, list) else node

    whole: dict[str, Any] = put_in(schema)
    return whole
