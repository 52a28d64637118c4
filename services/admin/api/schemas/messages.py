"""Mails in the ledger, their path, and those in quarantine."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import Id, Out
from services.admin.api.schemas.derived import output_of
from services.admin.operations.messages import (
    Delivered,
    DeliveredAgain,
    LoggedMessage,
    MessageDetail,
    MessagePage,
    NotFor,
    Stop,
)
from services.admin.operations.quarantine import Quarantined, QuarantinePage
from shared.connections import folder_name
from shared.mail.kinds import MailKind
from shared.person_erasure import Erased


@output_of(LoggedMessage)
class MessageOut(Out):
    """A mail as the list shows it."""

    folder: str = Field(description="As in `data.mail`: INBOX for the inbox")
    sender: str = Field(description="The address of the first author; empty where From has none")
    settled_as: str = Field(
        description="read, deleted, vanished, or nothing: it stays as it is; empty: not yet"
    )
    kind: str = Field(description="As in `data.mail`; empty as long as it is not known")
    attachments: int | None = Field(description="How many; null as long as it is not known")
    thread: str = Field(description="As in `data.mail`; empty as long as it is not known")
    state: Literal[
        "waiting",
        "retrying",
        "published",
        "in-hand",
        "acknowledged",
        "rejected",
        "dead-letter",
        "quarantined",
        "dropped",
        "unwanted",
    ] = Field(description="From published on, what the handlers did with it when last looked at")


class PartOut(Out):
    """One part of a mail."""

    path: str = Field(description="Its address below `/parts/`, as IMAP counts: 2.1")
    content_type: str
    name: str = Field(description="Safe as the name of a file; empty where the sender gave none")
    disposition: str
    content_id: str
    size: int = Field(description="Octets once decoded")
    charset: str


class PartsOut(Out):
    """The parts of a mail, the first 200, and how many more there are."""

    items: list[PartOut]
    left_off: int


class AddressOut(Out):
    name: str
    address: str


class EnvelopeRecipientOut(AddressOut):
    tag: str = Field(description="4711 of support+4711@example.com")


class EvidenceOut(Out):
    """A header field that made a mail the kind that it is."""

    field: str
    value: str


class BounceOut(Out):
    """What could not be delivered, and why."""

    action: str
    status: str
    recipient: str
    diagnostic: str
    original_message_id: str
    diagnostic_is_from_text: bool


class AuthenticationResultOut(Out):
    method: str
    result: str
    domain: str


class SpamOut(Out):
    verdict: str
    score: float | None


class FindingOut(Out):
    """What in a mail other readers may read differently, or nobody can read."""

    kind: str
    detail: str


class FactsOut(Out):
    """As the fields of `data.mail` of an event that are called so."""

    kind: str
    evidence: list[EvidenceOut]
    auto_reply_suppressed: bool
    bounce: BounceOut | None
    authentication: list[AuthenticationResultOut] = Field(
        description="Of the servers that the connection trusts"
    )
    spam: SpamOut | None
    reply_to: list[AddressOut]
    sender: AddressOut | None
    return_path: AddressOut | None = Field(
        description="Null where no server noted one; its address is empty for the null return path"
    )
    delivered_to: list[EnvelopeRecipientOut]
    list_id: str
    in_reply_to: list[str]
    references: list[str]
    findings: list[FindingOut] = Field(description="Of header, layers, structure and parts")


@output_of(Stop)
class StopOut(Out):
    """One stop on a mail's path."""

    at: datetime | None = Field(description="null: what is so now")
    what: Literal[
        "arrived",
        "downloaded",
        "settled",
        "opened",
        "filtered",
        "published",
        "waiting",
        "in-hand",
        "acknowledged",
        "rejected",
        "given-up",
        "dead-letter",
        "delivered-again",
        "discarded",
        "left-dead-letters",
        "quarantined",
        "released",
        "dropped",
    ]


@output_of(Delivered)
class DeliveryOut(Out):
    """One handler's event."""

    note: str = Field(description="Why it got the mail in doubt; empty where its rules took it")
    redelivery: dict[str, Any] | None = Field(description="Where it was asked for once more")
    state: Literal["waiting", "in-hand", "acknowledged", "rejected", "dead-letter", "unknown"]
    checked_at: datetime | None = Field(description="When that was seen")
    in_hand: dict[str, Any] | None = Field(description="consumer, since, deliveries")


@output_of(NotFor)
class NotForOut(Out):
    """A handler that does not get the mail, and why."""

    decided_by: Literal["rules", "group"]


@output_of(MessageDetail, without=("message", "headers", "handed_out", "raw", "opened", "history"))
class MessageDetailOut(MessageOut):
    """A mail with its whole path."""

    headers: dict[str, Any] | None = Field(
        description="The fields as the event shows them, protected ones in their place; null for "
        "those who may not read mails"
    )
    recipient_names: list[str] = Field(description="One for each recipient, maybe empty")
    cc_names: list[str]
    findings: list[FindingOut] = Field(description="Of the header; `/facts` has all")
    sha256: str
    opened_size: int | None
    opened_sha256: str | None
    deliveries: list[DeliveryOut]
    left_out: list[NotForOut]
    path: list[StopOut]


@output_of(MessagePage)
class MessagePageOut(Out):
    """Newest first; give `next` as `before` to continue."""

    items: list[MessageOut]
    looked_back_to: datetime | None = Field(
        description="Set where not all mails were looked at: how far back that was. `next` goes on"
    )


@output_of(DeliveredAgain)
class DeliveredAgainOut(Out):
    """How many mails are on their way again."""

    next: uuid.UUID | None = Field(description="Where more match: repeat with it as `before`")


@output_of(Quarantined, without=("raw", "native_key", "uid_validity"))
class QuarantinedOut(Out):
    """A mail that cannot be processed, with the reason."""

    folder: Annotated[str, AfterValidator(folder_name)] = Field(
        description="It came through; INBOX for the inbox"
    )
    has_raw: bool


@output_of(QuarantinePage)
class QuarantinePageOut(Out):
    """Newest first; give `next` as `before` to continue."""

    items: list[QuarantinedOut]


class DeliverAgainIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    handlers: list[Id] = Field(default=[], max_length=1000, description="Empty: all that take it")
    reason: str = Field(
        default="", max_length=200, description="Told to handlers that had it, in `redelivery`"
    )


class DeliverManyAgainIn(DeliverAgainIn):
    """A filter as of the list; at least one of its fields is needed."""

    q: str = Field(default="", max_length=1000)
    connection: Id | None = None
    state: (
        Literal[
            "waiting",
            "retrying",
            "published",
            "in-hand",
            "acknowledged",
            "rejected",
            "dead-letter",
            "dropped",
            "undecrypted",
            "unwanted",
        ]
        | None
    ) = None
    filtered_by: Id | None = Field(default=None, description="A handler that it was not for")
    kind: MailKind | None = None
    has_attachment: bool | None = None
    thread: str = Field(default="", max_length=1000, pattern=r"^[^\u0000]*$")
    since: str | None = Field(default=None, max_length=40, description="A date or time")
    until: str | None = Field(default=None, max_length=40, description="A date or time")
    before: uuid.UUID | None = None


class EraseIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    address: str = Field(min_length=3, max_length=320, description="The person's mail address")


@output_of(Erased)
class ErasedOut(Out):
    """How many mails are gone and how many objects of the store were removed or written anew."""

    postponed: int = Field(description="Objects in use right now: call again in a minute")


class EntriesIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ids: list[uuid.UUID] = Field(min_length=1, max_length=1000)
