"""What is done to many connections at once, and what became of each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.common import Id, Out, Tags, described
from services.admin.api.schemas.connections import START_FROM, ConnectionCreate, ConnectionIn
from services.admin.operations.bulk import MOST
from services.admin.operations.bulk_saving import MOST as MOST_SAVED


class BulkIn(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"ids": [1, 2], "action": "change", "add_tags": ["sales"]}]
        },
    )

    ids: list[Id] = Field(min_length=1, max_length=MOST)
    action: Literal["change", "enable", "disable", "test", "fetch"]
    interval_minutes: int | None = Field(default=None, ge=1, le=60, description="change")
    add_tags: Tags = Field(default=[], description="change")
    remove_tags: Tags = Field(default=[], description="change")
    add_certificates: list[Id] = Field(default=[], description="change: ids of certificates")
    remove_certificates: list[Id] = Field(default=[], description="change: ids of certificates")
    acknowledged: bool = Field(default=False, description="enable: new mails may be downloaded")
    start_from: str | None = Field(default=None, max_length=40, description=f"enable: {START_FROM}")


class OutcomeOut(Out):
    """What became of one connection."""

    id: int
    name: str
    status: Literal["done", "unchanged", "asks", "failed"] = Field(
        description="`asks`: enabling would download mails, repeat it acknowledged or with another "
        "start"
    )
    text: str
    hint: str
    new: int | None = Field(description="How many mails enabling would download")


class BulkOut(BaseModel):
    items: list[OutcomeOut]


def _needs_only_id(schema: dict[str, Any]) -> None:
    schema["required"] = ["id"]
    for field in schema["properties"].values():
        field.pop("default", None)


class ChangeIn(ConnectionCreate):
    """The fields of a connection that change."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_needs_only_id)

    id: Id
    version: str = Field(
        default="",
        max_length=200,
        description="The `ETag` of what is to be changed, without its quotation marks: status 412 "
        "where somebody else changed it",
    )


class ManyIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[ConnectionCreate | ChangeIn] = Field(min_length=1, max_length=MOST_SAVED)


class SavingOut(BaseModel):
    """What became of one connection that was to be added or changed."""

    id: int | None = Field(description="null: it was not saved")
    error: dict[str, Any] | None = Field(description="The problem that saving it alone would give")


class ManyOut(BaseModel):
    items: list[SavingOut]


class IdsOut(BaseModel):
    ids: list[int]


class FaultOut(Out):
    """What is wrong with a file, and where; both count from 1, column 0 is the line itself."""

    line: int
    column: int
    heading: str
    text: str
    hint: str


class ImportRowOut(Out):
    line: int
    name: str
    mode: str
    username: str
    host: str


class ImportedOut(Out):
    """The connections of a file, as they would be or were added."""

    done: bool = Field(description="They were added")
    rows: list[ImportRowOut]
    faults: list[FaultOut] = Field(description="The first 200")
    fault_count: int


BulkBody = described(BulkIn)
ManyBody = described(ManyIn)
DuplicateBody = described(ConnectionIn, partial=True)
