"""The settings of the decryptor, on top of the shared ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pydantic import Field

from shared.settings import Settings


class DecryptorSettings(Settings):
    decrypt_threads: int = Field(
        default=2, ge=1, le=64, description="Batches at the same time; one core needs two"
    )
    claim_seconds: float = Field(
        default=120, ge=10, le=3600, description="A decryptor that died frees its mails after this"
    )
    decrypt_attempts: int = Field(
        default=5, ge=1, le=100, description="A mail that failed this often goes to quarantine"
    )
    text_max_bytes: int = Field(
        default=16_384,
        ge=0,
        le=1_048_576,
        description="Octets of a mail's text that are in its event; 0: none",
    )
    spool_dir: Path = Field(
        default=Path(tempfile.gettempdir()),
        description="Large mails are decrypted through files here",
    )
    alert_unwanted: bool = Field(
        default=False,
        description="Tell the webhooks of mails that the rules of every handler left out: of the "
        "first of a connection at once, of those of the ten minutes after it together when these "
        "are over",
    )
    trust_system: bool = Field(
        default=False,
        description="Trust the operating system's trust anchors for signatures too, though that "
        "list is made for web servers; the event then says so",
    )
