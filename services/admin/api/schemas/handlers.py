"""Handlers, their queues and dead letters."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from services.admin.api.schemas.common import Id, Out, described
from services.admin.api.schemas.derived import input_of
from services.admin.api.schemas.forwards import ForwardIn, ForwardOut
from services.admin.operations.rules import DAYS, MOST_DAYS, MOST_LISTED
from shared.handlers import Handler
from shared.rules.expression import LONGEST
from shared.rules.ruleset import MOST_RULES

#: One value of a fact, or several of which one has to hold.
Value = str | int | bool | list[str | int | bool]


class OwnHandlerOut(Out):
    id: Id
    name: str


class ConsumerOut(Out):
    """A program at the queue; null where the broker does not tell."""

    name: str
    in_hand: int | None
    idle_s: float | None = Field(description="Seconds since its last sign of life")


class QueueOut(Out):
    backlog: int
    dead_letters: int
    oldest_at: datetime | None
    checked_at: datetime | None
    consumers: list[ConsumerOut] | None = Field(description="null: the broker does not tell")
    nobody_reads: bool = Field(description="Events wait, and no consumer is there to take them")
    last_acknowledged_at: datetime | None = Field(
        description="When an acknowledgement was last seen; null: none, or they are not counted"
    )


class HeldMailOut(Out):
    message_id: uuid.UUID | None
    subject: str | None
    consumer: str
    since: datetime
    deliveries: int


class WaitingMailOut(Out):
    message_id: uuid.UUID
    subject: str | None
    sender: str | None
    published_at: datetime


class AtWorkOut(Out):
    """What a handler has in hand (Redis), and the oldest mails that it did not acknowledge."""

    in_hand: list[HeldMailOut]
    waiting: list[WaitingMailOut]


class RulesIn(BaseModel):
    """Which mails a handler takes: those that a rule of `accept` fits (any, where there is none),
    that no rule of `reject` fits, and for which `expression` is true. A rule is a mapping of facts
    to values, of which one has to hold; all its facts have to. docs/rules.md has the language."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "accept": [{"recipient": "support@example.org", "kind": ["person", "list"]}],
                    "reject": [{"size": "> 20 MB"}],
                    "expression": "",
                }
            ]
        },
    )

    accept: list[dict[str, Value]] = Field(default=[], max_length=MOST_RULES)
    reject: list[dict[str, Value]] = Field(default=[], max_length=MOST_RULES)
    expression: str = Field(default="", max_length=LONGEST, description="CEL; empty: none")


#: Read by `shared.rules`, which says all that is wrong at once.
GivenRules = Annotated[dict[str, Any], WithJsonSchema(RulesIn.model_json_schema())]


class HandlerOut(BaseModel):
    """A handler and its queue."""

    id: int
    name: str
    description: str
    enabled: bool
    connections: Literal["all"] | list[int]
    rules: RulesIn
    sentences: list[str] = Field(description="The rules read aloud, by their numbers")
    group: str
    position: int
    has_token: bool
    token: str | None = Field(
        default=None, description="Only in the answer that made it: it is stored as a digest"
    )
    has_signing_key: bool
    has_former_signing_key: bool = Field(
        description="While the key is renewed: events are signed with both"
    )
    signing_key: str | None = Field(
        default=None, description="Only in the answer that made it: events are signed with it"
    )
    redis_stream: str
    rabbitmq_queue: str
    forward: ForwardOut | None = Field(
        description="Where the forwarder passes its events on to; null: its program consumes them"
    )
    queue: QueueOut
    waiting: int = Field(description="Mails that are still to be published to it")
    created_at: datetime | None
    updated_at: datetime | None


class DryRunIn(BaseModel):
    """What is to be tried; what is left out is as the handler has it."""

    model_config = ConfigDict(extra="forbid")

    rules: GivenRules | None = None
    connections: Literal["all"] | list[Id] | None = None
    group: str | None = Field(default=None, max_length=64)
    position: int | None = None
    days: int = Field(
        default=DAYS,
        ge=1,
        le=MOST_DAYS,
        description="How far back: to the begin of the UTC day that was so many days ago",
    )
    since: str | None = Field(
        default=None,
        max_length=40,
        description="A date or time, in place of `days`: mails downloaded since then",
    )
    listed: int = Field(default=20, ge=0, le=MOST_LISTED, description="Mails that are listed")


class PastMailOut(Out):
    id: uuid.UUID
    connection_id: int
    sender: str
    subject: str
    downloaded_at: datetime


class PastMailTaken(PastMailOut):
    had: bool = Field(description="The handler has it already, or is about to get it")


class PastMailLeftOut(PastMailOut):
    reason: str


class DryRunOut(BaseModel):
    """What the rules would have taken of past mails. Nothing was changed or delivered."""

    looked_at: int
    taken: int = Field(description="Of these, with those in doubt: `had` and `to_deliver` together")
    had: int = Field(description="Taken, and with the handler already")
    to_deliver: int = Field(
        description="Taken, and what `deliver-since` delivers once they are saved"
    )
    unsure: int = Field(description="Taken because a fact is not known")
    to_deliver_unsure: int = Field(
        description="How many of `to_deliver` that are: of these, what fits is delivered"
    )
    held: int = Field(description="Not taken: its rules fit, and another of its group has it")
    listed: list[PastMailTaken] = Field(
        description="The newest of those taken; those that it does not have come first"
    )
    left_out: list[PastMailLeftOut] = Field(description="The newest of the others")
    since: datetime
    back_to: datetime | None = Field(description="The oldest mail that was looked at")
    complete: bool = Field(description="False where time ran out before `since` was reached")
    not_kept: str = Field(description="What cannot be answered for past mails; empty: all can")
    sentences: list[str]


class DeliverSinceIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    since: str = Field(max_length=40, description="A date or time: mails downloaded since then")
    before: uuid.UUID | None = Field(default=None, description="`next` of the call before")


class BrokerAccountOut(Out):
    """An account of the broker that can consume this handler's queue and nothing else."""

    user: str
    password: str = Field(description="Only in this answer: it is kept nowhere")
    made: bool = Field(description="False where Posthouse may not make it: run the commands")
    commands: list[str]
    note: str


class DeadLetterOut(BaseModel):
    """An event that its handler rejected, or failed at too often."""

    event_id: str
    reason: str
    died_at: datetime | None
    deliveries: int
    size: int
    given_up: bool = Field(description="Nobody rejected it: it was given too often")
    message_id: uuid.UUID | None
    subject: str


class DeadLettersIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    event_ids: list[str] | None = Field(
        default=None, max_length=1000, description="Left out: all of them"
    )
    reason: str | None = Field(
        default=None, max_length=10_000, description="Of these, those with this very reason"
    )


@input_of(Handler)
class HandlerIn(BaseModel):
    """A named subscription."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "crm", "connections": "all"}]},
    )

    connections: Literal["all"] | list[Id] = "all"
    rules: GivenRules = {}
    forward: Annotated[
        dict[str, Any] | None,
        WithJsonSchema({"anyOf": [ForwardIn.model_json_schema(), {"type": "null"}]}),
    ] = Field(default=None, description="null ends it; in a change, what is left out stays")


HandlerBody = described(HandlerIn)
HandlerChanges = described(HandlerIn, partial=True)
