"""The settings of the forwarder, on top of the shared ones."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Settings


class ForwarderSettings(Settings):
    forward_check_seconds: float = Field(
        default=2, gt=0, le=60, description="How often changed and paused forwards are looked for"
    )
    forward_stale_seconds: float = Field(
        default=60,
        ge=2,
        le=3600,
        description="Redis: what a forwarder that died held is taken over after this",
    )
