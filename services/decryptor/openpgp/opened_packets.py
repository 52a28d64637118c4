"""What a message holds whose packets lie here in the clear: decrypted here, or never encrypted.

Sequoia's binding shows no packet of a message and decrypts it once to verify what is in it, and
once more where nobody signed it. Where the packets are here already, only their signatures are
left for it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from services.decryptor.cms.errors import Malformed
from services.decryptor.layer_facts import PgpSignature
from services.decryptor.openpgp.compression import too_large, unpacked
from services.decryptor.openpgp.packets import letter_of, whole_packets
from services.decryptor.openpgp.sender_keys import Rings
from services.decryptor.openpgp.signature_counts import MOST_SIGNATURES
from services.decryptor.openpgp.signed_messages import MOST_BYTES
from services.decryptor.openpgp.verifying import verify_inline

#: A text (L) alone, behind its signatures (S), or between the packets that announce them (O) and
#: these (RFC 9580 section 10.3).
_FORM = re.compile("S*L|(O+)L(S+)")
_LITERAL = 11
#: Behind the format and the file name of a text there is a date (section 5.9).
_DATE = 4
#: What unpacking adds to a text at most: its signatures, its file name.
_FRAME = 1 << 20


class ReadMessage(NamedTuple):
    """The text, and what its signature is worth; None where it carries none."""

    content: bytes
    signature: PgpSignature | None


def read_packets(packets: bytes, rings: Rings, limit: int) -> ReadMessage | None:
    """The text among packets of the usual form; None where they are of another, or long.

    `limit` bounds what is unpacked, in octets. Raises NotOpened (damaged) or Malformed (over the
    limit).
    """
    try:
        plain = unpacked(packets, min(limit, MOST_BYTES))
    except Malformed:
        if limit <= MOST_BYTES:
            raise
        return None
    if len(plain) > MOST_BYTES:
        return None
    found = whole_packets(plain, 2 * MOST_SIGNATURES + 1)
    form = _FORM.fullmatch("".join(letter_of(kind) for kind, _ in found))
    if form is None or len(form[1] or "") != len(form[2] or ""):
        return None
    literal = next(body for kind, body in found if kind == _LITERAL)
    start = 2 + (literal[1] if len(literal) > 1 else 0) + _DATE
    if len(literal) < start:
        return None
    content = literal[start:]
    if len(content) > limit:
        raise too_large(limit)
    if len(found) == 1:
        return ReadMessage(content, None)
    signature = verify_inline(plain, rings, len(plain) + _FRAME)
    if signature.signature in ("valid", "mismatch") and signature.content != content:
        signature = PgpSignature("invalid", reason="The signature does not cover the content.")
    return ReadMessage(content, signature)
