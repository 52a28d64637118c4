"""Whether nobody signed a long message, from its first octets.

Sequoia's binding says nothing of what a message holds, and refuses to give the content of one that
it was asked to verify and nobody signed: so most long messages would be decrypted twice.
"""

from __future__ import annotations

from collections.abc import Collection

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher

from services.decryptor.cms.errors import CmsError
from services.decryptor.openpgp.compression import beginning_of as unpacked_beginning
from services.decryptor.openpgp.packets import letter_of, packet_at
from services.decryptor.openpgp.recipients import EncryptedSessionKey, beginning_of
from services.decryptor.openpgp.reencryption import meant
from services.decryptor.openpgp.session_keys import block_cipher, session_key
from shared.certificates import OpenPGPKey
from shared.certificates.openpgp_keys import secret_packet
from shared.certificates.openpgp_subkeys import Subkey
from shared.mail.region import Region

#: The first octets of a packet of type 18 version 1: random ones of a block, the last two twice.
_RANDOM = 18
_OLD = 3
#: Copies of the session key that are tried: each is an operation with the private key.
_MOST_COPIES = 4
_TEXT = "L"


def is_unsigned(
    message: Region, key: OpenPGPKey, subkey: Subkey, wanted: Collection[EncryptedSessionKey]
) -> bool:
    """Whether that message, of type 18 version 1 (RFC 9580 section 5.13.1), holds a text that no
    signature stands before (section 10.3), by one of the copies of the session key in `wanted`.

    False as well where that is not known. Nothing is authenticated: where it is a mistake, a
    signature is not looked at, as if somebody had left it out.
    """
    read = beginning_of(message)
    copies = [one for one in meant(read, subkey, wanted) if one[0] == _OLD]
    if read.kind != 18 or read.data[:1] != b"\1" or len(copies) > _MOST_COPIES:
        return False
    secret = secret_packet(key, subkey.fingerprint)
    for copy in copies:
        try:
            found = session_key(secret, subkey.fingerprint, copy)
            context = Cipher(block_cipher(found), CFB(bytes(16))).decryptor()
        except (CmsError, ValueError):
            continue
        begun = context.update(read.data[1:])
        if begun[_RANDOM - 4 : _RANDOM - 2] == begun[_RANDOM - 2 : _RANDOM]:
            first = packet_at(unpacked_beginning(begun[_RANDOM:]), 0)
            return first is not None and letter_of(first[0]) == _TEXT
    return False
