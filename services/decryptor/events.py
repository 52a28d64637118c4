"""The event of one mail, as handlers receive it (CloudEvents 1.0, structured JSON)."""

from __future__ import annotations

import base64
import json
from typing import Any

from shared.connections import Connection
from shared.messages import Outcome
from shared.storage.outbox import Claimed

_SECURITY = (
    "encrypted",
    "status",
    "certificate",
    "integrity",
    "signature",
    "signer",
    "reason",
    "recipients",
)


def compose(
    mail: Claimed,
    outcome: Outcome,
    connection: Connection | None,
    content: bytes | None,
    public_url: str,
) -> bytes:
    """`content` rides inline; None: by reference, an address of the API that stays valid."""
    address = f"{public_url.rstrip('/')}/api/v1/messages/{mail.id}/raw"
    headers = mail.headers
    inner = outcome.security.get("headers", {})
    size = mail.size if outcome.opened is None else outcome.opened.size
    digest = mail.sha256 if outcome.opened_sha256 is None else outcome.opened_sha256
    data: dict[str, Any] = {
        "connection": {
            "id": mail.connection_id,
            "name": connection.name if connection else "",
            "mode": connection.mode.value if connection else "",
            "mailbox": connection.mailbox if connection else "",
        },
        "sequence": mail.sequence,
        "headers": {
            "message_id": headers.message_id,
            "from": headers.sender,
            "to": list(headers.to),
            "cc": list(headers.cc),
            "subject": inner.get("subject", headers.subject),
            "date": headers.date.isoformat() if headers.date else None,
        },
        "size": size,
        "sha256": digest.hex(),
        "raw": {"url": address}
        if content is None
        else {"inline": base64.b64encode(content).decode()},
        "security": {name: outcome.security.get(name) for name in _SECURITY},
        "downloaded_at": mail.downloaded_at.isoformat(),
    }
    if outcome.opened is not None:
        data["original"] = {
            "size": mail.size,
            "sha256": mail.sha256.hex(),
            "url": f"{address}?original=1",
        }
    event = {
        "specversion": "1.0",
        "id": str(mail.id),
        "source": f"/connections/{mail.connection_id}",
        "type": "posthouse.mail.received.v1",
        "time": mail.downloaded_at.isoformat(),
        "subject": headers.message_id or str(mail.id),
        "datacontenttype": "application/json",
        "data": data,
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
