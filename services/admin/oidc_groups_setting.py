"""What a group of the login provider gives, as the setting OIDC_GROUPS has it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from shared.connection_editing import FIELDS
from shared.people import Role


class Granted(BaseModel):
    """What the people of a group get: `tags` as a person's, empty for all connections."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Role
    tags: tuple[str, ...] = ()

    @field_validator("tags", mode="before")
    @classmethod
    def _are_tags(cls, value: Any) -> Any:
        return FIELDS["tags"].parse(list(value) if isinstance(value, tuple) else value)

    @model_validator(mode="after")
    def _administers_all(self) -> Granted:
        if self.tags and self.role is Role.ADMIN:
            raise ValueError("an administrator sees all connections: leave the tags out")
        return self
