"""Certificates in PEM, also those that OpenSSL wrote together with what they are trusted for."""

from __future__ import annotations

import binascii
import re

from asn1crypto import parser
from cryptography import x509

from shared.certificates.identifiers import Unreadable
from shared.errors import InvalidInput

_BASE64 = re.compile(rb"-----BEGIN TRUSTED CERTIFICATE-----(.*)-----END ", re.DOTALL)


def certificate(block: bytes) -> x509.Certificate:
    """The certificate between two lines of PEM, of any of its labels. Raises InvalidInput.

    Behind a TRUSTED CERTIFICATE (`openssl x509 -trustout`) there are uses, which nobody asks for.
    """
    try:
        trusted = _BASE64.search(block)
        if trusted is not None:
            data = binascii.a2b_base64(trusted[1])
            _, _, _, header, content, trailer = parser.parse(data)
            return x509.load_der_x509_certificate(header + content + trailer)
        return x509.load_pem_x509_certificate(block.replace(b" X509 CERTIFICATE", b" CERTIFICATE"))
    except Unreadable as error:
        raise InvalidInput("A certificate in this file is damaged.", field="file") from error
