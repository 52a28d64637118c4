"""Writes the TypeScript types of the event: `python -m tests.servers.node`."""

from __future__ import annotations

from tests.servers.node import TYPES, made_types

if __name__ == "__main__":
    TYPES.write_text(made_types())
