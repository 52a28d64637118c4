"""Signatures of events: what shows that Posthouse, and nobody else at the broker, wrote one.

A signature travels beside the event: the field `signature` of a Redis entry, the header
`x-posthouse-signature` on RabbitMQ. It reads `t=<milliseconds since 1970>,v1=<hex>`, with a second
`v1=` while a key is being renewed. Each `v1` is HMAC-SHA256 (RFC 2104), under the octets of the key
as it was shown, over `<handler>.<t>.` followed by the octets of the event, exactly as they came.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from posthouse.errors import PosthouseError

#: The field of a Redis entry, and the header of a RabbitMQ message.
FIELD = "signature"
HEADER = "x-posthouse-signature"

KEY_VARIABLE = "POSTHOUSE_SIGNING_KEY"

#: Twice the time that Posthouse keeps mails by default: no honest event waits for longer.
MAX_AGE_S = 60 * 86400.0

#: Octets of a block of SHA-256, and what HMAC does to each octet of the key.
_BLOCK = 64
_INNER = bytes(octet ^ 0x36 for octet in range(256))
_OUTER = bytes(octet ^ 0x5C for octet in range(256))

_FORM = re.compile(r"t=([0-9]{1,15})((?:,v1=[0-9a-f]{64}){1,4})")


class Unverified(PosthouseError, ValueError):
    """An event that does not show that Posthouse made it for this handler; the text says why."""


def sign(handler: str, event: bytes, keys: Sequence[str], *, now: float | None = None) -> str:
    """The signature of `event` for `handler` under each of `keys`; `now` in seconds since 1970."""
    at = int((time.time() if now is None else now) * 1000)
    return f"t={at}" + "".join(f",v1={_mac(key, handler, at, event)}" for key in keys)


class Verifier:
    """Checks events of one handler against its signing keys: one, or two in a renewal."""

    def __init__(
        self, handler: str, keys: str | Sequence[str] | None = None, *, max_age_s: float = MAX_AGE_S
    ) -> None:
        """`keys`: as Posthouse showed them; several in one text are separated by blanks or commas.
        Without them the environment's POSTHOUSE_SIGNING_KEY. Raises ValueError where there is none.
        """
        given = os.environ.get(KEY_VARIABLE, "") if keys is None else keys
        texts = [given] if isinstance(given, str) else list(given)
        self._keys = [key for text in texts for key in re.split(r"[\s,]+", text) if key]
        if not self._keys:
            raise ValueError(
                f"no signing key for {handler}: put the one that Posthouse showed with the "
                f"handler's token into {KEY_VARIABLE}, or give it as signing_key (a new one: "
                f"posthouse handlers signing-key {handler}); verify=False takes any event"
            )
        self._handler = handler
        self._max_age_s = max_age_s

    def check(self, event: bytes, signature: str) -> None:
        """Raises Unverified unless Posthouse signed `event` for this handler not too long ago."""
        if not signature:
            raise Unverified("it is not signed")
        parsed = _FORM.fullmatch(signature)
        if parsed is None:
            raise Unverified("its signature is not of a form that is known here")
        at = int(parsed[1])
        given = re.findall(r"v1=([0-9a-f]{64})", parsed[2])
        wanted = [_mac(key, self._handler, at, event) for key in self._keys]
        if not any(hmac.compare_digest(one, other) for one in given for other in wanted):
            raise Unverified(
                "its signature is by no signing key that is given here: it was changed, made for "
                "another handler, or signed with another key"
            )
        if time.time() - at / 1000 > self._max_age_s:
            days = self._max_age_s / 86400
            raise Unverified(f"it was signed more than {days:g} days ago, and may be a replay")


@lru_cache(maxsize=256)
def _begun(key: str) -> tuple[hashlib._Hash, hashlib._Hash]:
    """The inner and the outer hash of HMAC (RFC 2104 section 2) behind the key's block."""
    octets = key.encode()
    if len(octets) > _BLOCK:
        octets = sha256(octets).digest()
    octets = octets.ljust(_BLOCK, b"\0")
    return sha256(octets.translate(_INNER)), sha256(octets.translate(_OUTER))


def _mac(key: str, handler: str, at: int, event: bytes) -> str:
    """Begun once for each key, and without a copy of the event: what is left is SHA-256 of it.

    `hmac` does the same by way of an object of Python and one of OpenSSL for each MAC.
    """
    begun, outer = _begun(key)
    inner, outer = begun.copy(), outer.copy()
    inner.update(f"{handler}.{at}.".encode())
    inner.update(event)
    outer.update(inner.digest())
    return outer.hexdigest()
