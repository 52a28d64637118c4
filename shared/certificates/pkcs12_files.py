"""PKCS #12 files (RFC 7292) from outside: out of their armour, and what keys they hold."""

from __future__ import annotations

import binascii
import codecs
import re

from asn1crypto import pkcs12

_ARMOURED = re.compile(rb"-----BEGIN PKCS ?#?12-----(.*?)-----END PKCS ?#?12-----", re.DOTALL)
_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]+=*\s*")
_KEY_BAGS = ("key_bag", "pkcs8_shrouded_key_bag")


def without_marks(data: bytes) -> bytes:
    """A file of text without the mark in front that Windows writes, and in ASCII where it is in
    UTF-16, as PowerShell redirects what a program prints; any other file as it is."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode("ascii")
        except UnicodeError:
            return data
    return data.removeprefix(codecs.BOM_UTF8)


def unarmoured_pkcs12(data: bytes) -> bytes | None:
    """The PKCS #12 file inside armour (as gpgsm and NSS write it) or bare base64; None if none."""
    found = _ARMOURED.search(data)
    if found is None and not _BASE64.fullmatch(data):
        return None
    try:
        inner = binascii.a2b_base64(found[1] if found else data)
    except binascii.Error:
        return None
    return inner if inner[:1] == b"\x30" else None


def key_names(data: bytes) -> list[str]:
    """A name for each private key of a PKCS #12 file, as far as that shows without its password.

    Every program leaves the list of keys readable, and protects each key by itself.
    """
    names: list[str] = []
    try:
        for content in pkcs12.Pfx.load(data).authenticated_safe:
            if content["content_type"].native != "data":
                continue
            for bag in pkcs12.SafeContents.load(content["content"].native):
                if bag["bag_id"].native in _KEY_BAGS:
                    names.append(_name(bag) or f"number {len(names) + 1}")
    except (ValueError, TypeError, KeyError, AttributeError):
        return names[:1]
    return names


def _name(bag: pkcs12.SafeBag) -> str:
    for attribute in bag["bag_attributes"]:
        if attribute["type"].native == "friendly_name":
            return str(attribute["values"][0].native)[:100]
    return ""
