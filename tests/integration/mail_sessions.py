"""Opening mailboxes on test servers, in a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.connections import Connection, Mode, TransportSecurity
from shared.mailbox.base import Login, Mailbox
from shared.mailbox.failures import StepFailed
from shared.mailbox.open import open_mailbox


def connection_to(port: int, mode: Mode = Mode.IMAP, **changes: Any) -> Connection:
    """A connection in plain text to a port of this machine, unless `changes` say otherwise."""
    values: dict[str, Any] = {
        "name": "under test",
        "mode": mode,
        "host": "127.0.0.1",
        "port": port,
        "security": TransportSecurity.NONE,
        "username": "alice",
        "has_password": True,
        "timeout_ms": 5000,
        **changes,
    }
    return Connection(**values)


@contextmanager
def opened(
    connection: Connection, *, password: str = "secret", read_timeout_s: float = 5, **more: Any
) -> Iterator[Mailbox]:
    mailbox = open_mailbox(
        connection, Login(connection.username, password), read_timeout_s=read_timeout_s, **more
    )
    try:
        yield mailbox
    finally:
        mailbox.close()


def failure(port: int, mode: Mode = Mode.IMAP, *, password: str = "secret", **changes: Any) -> Any:
    """How opening fails; a StepFailed with everything that a person needs."""
    with (
        pytest.raises(StepFailed) as caught,
        opened(connection_to(port, mode, **changes), password=password),
    ):
        pass
    error: Any = caught.value
    assert str(error)
    return error
