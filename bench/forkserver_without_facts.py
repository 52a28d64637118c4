"""Starts services whose decryptors read no facts: beside them one sees what facts cost."""

from __future__ import annotations

from typing import Any

from services.decryptor.mail_facts import MailFactsReader
from tests.rig import forkserver


def _nothing(*_: Any, **__: Any) -> dict[str, Any]:
    return {}


if __name__ == "__main__":
    for name in ("of_bytes", "of_stored"):
        setattr(MailFactsReader, name, _nothing)
    forkserver.main()
