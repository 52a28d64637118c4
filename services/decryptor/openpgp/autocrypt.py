"""The key that a mail brings for its own sender: the field Autocrypt (autocrypt.org, level 1).

Anybody can write that field. It is no reason to trust, but it can tell a signature that is wrong
from one by somebody unknown, and the administrator whose key to ask for.
"""

from __future__ import annotations

import binascii
from itertools import islice

from pysequoia import Cert

from services.decryptor.openpgp.packets import packets_of
from shared.mail.fields import HeaderBlock

#: Octets of the field: keys are a few kilobytes.
MAX_FIELD = 1 << 16
#: Packets of the key, and their types (RFC 9580 section 10.1): Autocrypt has five. Sequoia verifies
#: each signature that fits nothing over each user id, and unpacks what is compressed.
_MOST_PACKETS = 32
_KINDS = frozenset({2, 6, 13, 14, 17})


def keys_of(header: HeaderBlock) -> list[Cert]:
    """The key of the field; none where there are several fields, or it is damaged or too large."""
    fields = header.all("autocrypt")
    if len(fields) != 1:
        return []
    value = header.value("autocrypt")
    if len(value) > MAX_FIELD:
        return []
    for attribute in value.split(b";"):
        name, _, data = attribute.partition(b"=")
        if name.strip().lower() == b"keydata":
            try:
                key = binascii.a2b_base64(b"".join(data.split()))
                kinds = [kind for kind, _ in islice(packets_of(key), _MOST_PACKETS + 1)]
                if len(kinds) > _MOST_PACKETS or not _KINDS.issuperset(kinds):
                    return []
                return [Cert.from_bytes(key)]
            except (binascii.Error, RuntimeError, ValueError):
                return []
    return []
