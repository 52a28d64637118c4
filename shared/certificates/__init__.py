"""Certificates with their private keys: read from what somebody uploads, found by what a mail says.

`parse_upload` turns an upload into plain values (to be encrypted at rest by the vault), as
`parse_certificate` does without bounds;
`Identity` and `IdentityIndex` are what the decryptor looks keys up in.
"""

from shared.certificates.decryption_keys import Identity, IdentityIndex, PrivateKey
from shared.certificates.openpgp_keys import OpenPGPKey
from shared.certificates.uploads import ParsedCertificate, parse_certificate, parse_upload

__all__ = [
    "Identity",
    "IdentityIndex",
    "OpenPGPKey",
    "ParsedCertificate",
    "PrivateKey",
    "parse_certificate",
    "parse_upload",
]
