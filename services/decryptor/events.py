"""The event of one mail, as handlers receive it: the SDK's own builder, fed from the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import pybase64

from posthouse import event_data, event_writing
from shared.connections import Connection, folder_name
from shared.mail.summary import MailHeaders, findings_to_json
from shared.mail_security import PLAIN
from shared.messages import DecryptOutcome
from shared.storage.outbox_claims import Claimed, Redelivery

#: What of the findings travels with the mail.
_SECURITY = (
    "encrypted",
    "status",
    "certificate",
    "integrity",
    "signature",
    "signer",
    "reason",
    "recipients",
    "layers",
    "revocation",
)


def compose(
    mail: Claimed,
    outcome: DecryptOutcome,
    connection: Connection | None,
    content: bytes | None,
    facts: Mapping[str, Any],
    public_url: str,
    traceparent: str,
    redelivery: Redelivery | None = None,
) -> bytes:
    """`content` is inline; None: by reference, an address of the API that stays valid.

    `facts` are those of `MailFactsReader`, of the form that handlers read.

    `traceparent` is that of the batch: asking for it costs as much as an event.
    """
    identifier = str(mail.id)
    address = f"{public_url.rstrip('/')}/api/v1/messages/{identifier}/raw"
    # Protected by encryption or signature, so those that the sender meant (RFC 9788).
    protected = outcome.security.get("headers")
    headers = MailHeaders.from_json(protected, mail.headers) if protected else mail.headers
    opened = outcome.opened
    return event_writing.build_event(
        id=identifier,
        connection=event_data.Connection(
            mail.connection_id,
            connection.name if connection else "",
            connection.mode.value if connection else "",
            connection.mailbox if connection else "",
        ),
        sequence=mail.sequence,
        headers=headers,
        size=mail.size if opened is None else opened.size,
        sha256=(outcome.opened_sha256 or mail.sha256).hex(),
        raw=event_data.Raw(url=address) if content is None else event_data.Raw(inline=content),
        original=None
        if opened is None
        else event_data.Original(f"{address}?original=1", mail.size, mail.sha256.hex()),
        mail={
            **facts,
            "from": _addresses([headers.sender], [headers.sender_name]),
            "to": _addresses(headers.to, headers.to_names),
            "cc": _addresses(headers.cc, headers.cc_names),
            "arrived_at": mail.arrived_at and mail.arrived_at.isoformat(),
            "folder": folder_name(mail.folder),
            "labels": list(mail.labels),
            **({"thread": mail.thread} if mail.thread else {}),
            "findings": _findings(headers, outcome, facts),
        },
        security=_PLAIN_FIELDS if outcome.security is PLAIN else _security(outcome.security),
        downloaded_at=mail.downloaded_at,
        redelivery=None
        if redelivery is None
        else event_data.Redelivery(
            int(redelivery["count"]),
            datetime.fromisoformat(redelivery["time"]),
            str(redelivery["reason"]),
        ),
        traceparent=traceparent,
        correlation_id=str(mail.correlation_id or ""),
        # The standard library's took an eighth and a tenth of the time of a small mail.
        base64_encode=pybase64.b64encode,
        json_encode=_json,
    )


def _security(security: Mapping[str, Any]) -> dict[str, Any]:
    return {name: security.get(name) for name in _SECURITY}


_PLAIN_FIELDS = _security(PLAIN)


def _findings(
    headers: MailHeaders, outcome: DecryptOutcome, facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Those of header, layers and structure, each once and without its place."""
    layers, structure = outcome.security.get("findings"), facts.get("findings")
    if not (headers.findings or layers or structure):
        return []
    found = [*findings_to_json(headers.findings), *(layers or ()), *(structure or ())]
    once = dict.fromkeys((one["kind"], one["detail"]) for one in found)
    return [{"kind": kind, "detail": detail} for kind, detail in once]


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # half of a surrogate pair
        return event_writing.encode_json(value)


def _addresses(addresses: Sequence[str], names: Sequence[str]) -> list[dict[str, str]]:
    """Each with its display name, empty where the sender gave none."""
    if not addresses:
        return []
    if len(names) < len(addresses):
        names = [*names, *[""] * (len(addresses) - len(names))]
    return [
        {"name": name, "address": address}
        for name, address in zip(names, addresses, strict=False)
        if address
    ]
