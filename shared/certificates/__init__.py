"""Certificates with their private keys: read from what somebody uploads, found by what a mail says.

`parse_certificate` turns an upload into plain values (to be encrypted at rest by the vault);
`Identity` and `IdentityIndex` are what the decryptor looks keys up in.
"""

from shared.certificates.decryption_keys import Identity, IdentityIndex, PrivateKey
from shared.certificates.openpgp import OpenPGPKey
from shared.certificates.parsing import ParsedCertificate, parse_certificate

__all__ = [
    "Identity",
    "IdentityIndex",
    "OpenPGPKey",
    "ParsedCertificate",
    "PrivateKey",
    "parse_certificate",
]
