"""The key that a mail brings for its own sender: the field Autocrypt (autocrypt.org, level 1).

Anybody can write that field. It is no reason to trust, but it can tell a signature that is wrong
from one by somebody unknown, and the administrator whose key to ask for.
"""

from __future__ import annotations

import binascii

from pysequoia import Cert

from shared.mail.fields import HeaderBlock

#: Octets of the field: keys are a few kilobytes.
MAX_FIELD = 1 << 16


def keys_of(header: HeaderBlock) -> list[Cert]:
    """The key of the field; none where there are several fields, or it is damaged."""
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
                return [Cert.from_bytes(binascii.a2b_base64(b"".join(data.split())))]
            except (binascii.Error, RuntimeError, ValueError):
                return []
    return []
