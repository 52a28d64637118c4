"""Starts services whose decryptors read no facts: beside them one sees what facts cost."""

from __future__ import annotations

from typing import Any

from services.decryptor import publishing
from services.decryptor.mail_facts import MailFactsReader
from tests.rig import forkserver


def _nothing(*_: Any, **__: Any) -> dict[str, Any]:
    return {}


if __name__ == "__main__":
    # `kept`, or the ledger is told of each mail that it has no parts: more than of a usual one.
    read = ((MailFactsReader, "of_bytes"), (MailFactsReader, "of_stored"), (publishing, "kept"))
    for owner, name in read:
        setattr(owner, name, _nothing)
    forkserver.main()
