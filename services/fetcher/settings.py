"""The settings of the fetcher, on top of the shared ones."""

from __future__ import annotations

from pydantic import Field

from shared.settings import Settings


class FetcherSettings(Settings):
    fetch_threads: int = Field(
        default=8, ge=1, le=256, description="Connections polled at the same time"
    )
    fetch_slow_threads: int = Field(
        default=8,
        ge=1,
        le=256,
        description="Slow, failing or backlogged connections fetched at the same time, apart",
    )
    lease_seconds: float = Field(
        default=60, ge=5, le=900, description="A fetcher that died frees its mailboxes after this"
    )
    batch_mails: int = Field(
        default=500, ge=1, le=5000, description="Mails made durable and committed together"
    )
    batch_bytes: int = Field(
        default=16_777_216, ge=65_536, description="Octets of such a batch (one mail may exceed it)"
    )
    slice_seconds: float = Field(
        default=20,
        ge=1,
        le=600,
        description="A run with a backlog ends after this, so that others begin; where its server "
        "keeps it waiting for half of this, the mailbox goes on in the slow lane",
    )
    kept_sessions: int = Field(
        default=5000, ge=0, le=20_000, description="Sessions kept open between polls"
    )
    push_sessions: int = Field(
        default=5000,
        ge=0,
        le=20_000,
        description="Sessions kept open for servers to push over, on connections with push",
    )
    sessions_per_host: int = Field(
        default=100_000,
        ge=1,
        le=1_000_000,
        description="Sessions at one mail server at the same time, of all fetchers together",
    )
    sessions_per_mailbox: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Sessions at one mailbox at the same time (its folders), of all fetchers "
        "together; Gmail allows 15, Exchange about 20, Dovecot 10, people included",
    )
    alert_after_minutes: float = Field(
        default=10,
        ge=0,
        le=1440,
        description="A connection that fails for so long is alerted, with others at its host; one "
        "that needs authorisation at once",
    )
    alert_after_failures: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="One that failed so often in a row is alerted before that time",
    )
    read_timeout_seconds: float = Field(
        default=60,
        ge=1,
        le=600,
        description="A server that sends nothing for so long is given up; one that sends a little "
        "now and then, after five times as long",
    )
