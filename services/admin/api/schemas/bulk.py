"""What is done to many connections at once, and what became of each."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.admin.api.schemas.connections import START_FROM, ConnectionCreate, ConnectionIn
from services.admin.api.schemas.parts import Id, Out, Tags, described
from services.admin.operations.bulk import MOST
from services.admin.operations.creating_many import MOST as MOST_CREATED


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


class ManyIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    items: list[ConnectionCreate] = Field(min_length=1, max_length=MOST_CREATED)


class CreatedOut(BaseModel):
    """What became of one connection that was to be added."""

    id: int | None = Field(description="null: it was not added")
    error: dict[str, Any] | None = Field(description="The problem that adding it alone would give")


class ManyOut(BaseModel):
    items: list[CreatedOut]


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
