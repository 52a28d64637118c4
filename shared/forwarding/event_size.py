"""Events as they are sent: whole, or with the mail by reference where the endpoint wants less."""

from __future__ import annotations

import json
from typing import Any, Final

from shared.forwarding import signed_links
from shared.forwards import Endpoint, Links

#: Octets of a mail's text that stay in an event that is too large.
_TEXT_LEFT: Final = 1024


def fitted(
    event: bytes, event_id: str, endpoint: Endpoint, handler_id: int, public_url: str,
    *, by_reference: bool = False,
) -> bytes:  # fmt: skip
    """The event for this endpoint; as it came unless it is larger than `max_bytes`, or addresses
    are to be signed. `by_reference`: the endpoint said that it is too large."""
    too_large = by_reference or len(event) > endpoint.options.max_bytes
    is_signed = endpoint.options.links is Links.SIGNED
    if not too_large and not is_signed:
        return event
    fields: dict[str, Any] = json.loads(event)
    data = fields["data"]
    raw, original = data["raw"], data.get("original")
    base = f"{public_url.rstrip('/')}/api/v1/messages/{event_id}/raw"

    def signed(url: str) -> str:
        return (
            signed_links.signed(url, endpoint.link_key, handler_id, event_id) if is_signed else url
        )

    if too_large:
        raw.pop("inline", None)
        raw["url"] = signed(base)
    elif raw.get("url"):
        raw["url"] = signed(raw["url"])
    if original and original.get("url"):
        original["url"] = signed(original["url"])
    written = _written(fields)
    if too_large and (by_reference or len(written) > endpoint.options.max_bytes):
        _shorten(data.get("mail") or {})
        written = _written(fields)
    return written


def _shorten(mail: dict[str, Any]) -> None:
    text = mail.get("text")
    if isinstance(text, str) and len(text.encode()) > _TEXT_LEFT:
        mail["text"] = text.encode()[:_TEXT_LEFT].decode(errors="ignore")
        mail["text_truncated"] = True


def _written(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
