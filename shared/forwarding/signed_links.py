"""Addresses of mails that open for a while, without a token: `…/raw?handler=7&expires=…&sig=…`.

The signature is HMAC-SHA256 under a key of the handler's forward over `<handler>.<mail>.<expires>`;
it opens this mail and its parts, as the handler's own token would, until then.
"""

from __future__ import annotations

import hmac
import re
import time
import uuid
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlencode

#: Seconds for which an address opens.
VALID_S: Final = 24 * 3600
_PATH: Final = re.compile(r"/api/v1/messages/([0-9a-f-]{36})/(?:raw|parts/[0-9.]{1,200})")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signed address says of itself; `holds` says whether it is true."""

    handler_id: int
    message_id: uuid.UUID
    expires: int
    signature: str

    def holds(self, key: bytes, now: float | None = None) -> bool:
        wanted = _signature(key, self.handler_id, str(self.message_id), self.expires)
        in_time = self.expires > (time.time() if now is None else now)
        return in_time and hmac.compare_digest(wanted.encode(), self.signature.encode())


def signed(url: str, key: bytes, handler_id: int, message_id: str, now: float | None = None) -> str:
    """`url`, an address of the mail's octets, with what opens it until a day from `now`."""
    expires = int(time.time() if now is None else now) + VALID_S
    query = urlencode(
        {
            "handler": handler_id,
            "expires": expires,
            "sig": _signature(key, handler_id, message_id, expires),
        }
    )
    return f"{url}{'&' if '?' in url else '?'}{query}"


def read(path: str, query: str) -> Claim | None:
    """The claim of an address, None where it makes none."""
    match = _PATH.fullmatch(path)
    if match is None or "sig=" not in query:
        return None
    try:
        found = {name: values[0] for name, values in parse_qs(query, max_num_fields=10).items()}
        return Claim(
            int(found["handler"]), uuid.UUID(match[1]), int(found["expires"]), found["sig"]
        )
    except (KeyError, ValueError):
        return None


def _signature(key: bytes, handler_id: int, message_id: str, expires: int) -> str:
    return hmac.digest(key, f"{handler_id}.{message_id}.{expires}".encode(), "sha256").hex()
