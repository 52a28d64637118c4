"""Handlers: named subscriptions to the mails of all connections, or of chosen ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema

from shared import input_fields as typed
from shared.errors import InvalidInput, Refusals
from shared.field_descriptions import LINE, LINES, About, Described, Empty, Truth, Whole, fields_of
from shared.rules.ruleset import Rules, read_rules

#: The name becomes part of queue names and routing keys.
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
ALL: Final = "all"
#: Seconds without a sign of life from when on a consumer is called silent: it asks far more often.
SILENT_S: Final = 90.0
#: The name of a group, within which one handler has a mail.
GROUP: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """`connection_ids` is None where it takes every connection, those to come included."""

    id: int = 0
    name: Annotated[
        str,
        Field(max_length=64),
        LINE,
        WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$"}),
        About(help="Part of its queue's name; cannot be changed"),
    ]
    description: Annotated[Annotated[str, Field(max_length=2000), LINES], Empty(""), About()] = ""
    enabled: Annotated[Truth, About()] = True
    connection_ids: tuple[int, ...] | None = None
    #: Which of their mails it takes.
    rules: Rules = field(default_factory=Rules)
    #: Of the handlers of one group the first that accepts, by position, has the mail. Empty: none.
    group: Annotated[
        Annotated[
            str,
            Field(max_length=64),
            LINE,
            WithJsonSchema({"type": "string", "pattern": f"^({GROUP.pattern})?$"}),
        ],
        Empty(""),
        About(help="Of the handlers of a group the first that accepts has a mail; empty: none"),
    ] = ""
    position: Annotated[
        Whole,
        Field(ge=0, le=1_000_000),
        About(help="Its place in the group: the lowest first, of equal ones the oldest"),
    ] = 0
    has_token: bool = False
    has_signing_key: bool = False
    #: While the key is being renewed: events are signed with both.
    has_former_signing_key: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def redis_stream(self) -> str:
        return f"posthouse:handler:{self.name}"

    @property
    def rabbitmq_queue(self) -> str:
        return f"posthouse.handler.{self.name}"


#: What somebody gives of it, beside its connections and rules.
FIELDS: Final[Mapping[str, Described]] = fields_of(Handler)


def edit(current: Handler | None, changes: Mapping[str, Any]) -> Handler:
    """Applies `changes` (field → JSON value) and checks them. Raises InvalidInput with all
    that is wrong.

    `connections` is `"all"` or a list of ids.
    """
    typed.only(changes, {*FIELDS, "connections", "rules"}, "handler")
    values: dict[str, Any] = {}
    refusals = Refusals()
    with refusals.collected():
        if "name" in changes or current is None:
            values["name"] = _named(current, changes.get("name", ""))
    for given in ("description", "enabled", "position"):
        with refusals.collected():
            if given in changes:
                values[given] = FIELDS[given].parse(changes[given])
    with refusals.collected():
        if "connections" in changes:
            chosen = changes["connections"]
            values["connection_ids"] = None if chosen == ALL else _chosen(chosen)
    with refusals.collected():
        if "rules" in changes:
            values["rules"] = read_rules(changes["rules"])
    with refusals.collected():
        if "group" in changes:
            values["group"] = _group(changes["group"])
    refusals.finish(("name", "description", "enabled", "connections", "rules", "group", "position"))
    base = {} if current is None else {n: getattr(current, n) for n in Handler.__slots__}
    return Handler(**{**base, **values})


def _named(current: Handler | None, value: Any) -> str:
    name: str = FIELDS["name"].parse(value)
    if not NAME.fullmatch(name):
        raise InvalidInput(
            "A handler's name is made of a-z, 0-9 and hyphens, 64 at most.",
            field="name",
            hint="It becomes part of the queue's name: crm, ticket-system.",
        )
    if current is not None and name != current.name:
        raise InvalidInput(
            "A handler keeps its name: its queue and what waits in it are called by it.",
            field="name",
            hint="Add another handler, then delete this one when its queue is drained.",
        )
    return name


def _group(value: Any) -> str:
    name: str = FIELDS["group"].parse(value)
    if name and not GROUP.fullmatch(name):
        raise InvalidInput(
            "A group's name is made of a-z, 0-9 and hyphens, 64 at most.", field="group"
        )
    return name


def _chosen(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        raise InvalidInput(
            "'connections' is \"all\" or a list of connection ids.", field="connections"
        )
    return typed.ids("connections", value)
