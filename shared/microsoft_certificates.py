"""Certificates by which Posthouse proves to Microsoft that it is the client (private key included).

Apart from `shared.credentials`, which commands read for their help: cryptography loads slowly.
"""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)

from shared.bounded_process import TookTooMuch, in_bounds
from shared.errors import InvalidInput


def pem_of(text: str) -> str:
    """What somebody gave as Microsoft client certificate, as PEM: PEM as it is, a PFX (PKCS #12) in
    base64, after its password and a colon where it has one. Raises InvalidInput."""
    if "-----BEGIN" in text:
        return text
    try:
        return in_bounds(_pem_of_pfx, text)
    except TookTooMuch as error:
        raise InvalidInput(
            "The PFX file asks for more work or memory than its password is worth.",
            field="client_certificate",
            hint="Export it again with fewer iterations, or key and certificate as PEM.",
        ) from error


def _pem_of_pfx(text: str) -> str:
    password, _, encoded = text.strip().rpartition(":")
    try:
        octets = base64.b64decode("".join(encoded.split()), validate=True)
        key, certificate, more = pkcs12.load_key_and_certificates(
            octets, password.encode() if password else None
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "The client certificate is neither PEM nor a PFX file in base64 with its password.",
            field="client_certificate",
            hint="Write password:base64 (base64 -w0 file.pfx), or export key and certificate as "
            "PEM: openssl pkcs12 -in file.pfx -nodes.",
        ) from error
    if key is None or certificate is None:
        raise InvalidInput(
            "The PFX file lacks the private key or its certificate.", field="client_certificate"
        )
    pieces = [
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        *(one.public_bytes(Encoding.PEM) for one in (certificate, *more)),
    ]
    return b"".join(pieces).decode()


def client_certificate_of(text: str) -> x509.Certificate:
    """The certificate in what Microsoft takes: PEM, with its private key. Raises InvalidInput."""
    pem = text.encode()
    try:
        load_pem_private_key(pem, None)
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "The client certificate is PEM: an unencrypted private key and its certificate.",
            field="client_certificate",
        ) from error
