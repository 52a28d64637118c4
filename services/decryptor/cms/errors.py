"""How opening one CMS structure can end, other than well. None of these leaves `open_mail`."""

from __future__ import annotations


class CmsError(Exception):
    """The root; `str()` is a sentence for people that tells nothing about the key."""


class Malformed(CmsError):
    """The octets are not the structure that they claim to be, or exceed a limit."""


class Unsupported(CmsError):
    """Well formed, but with an algorithm or a variant that is not opened here."""


class NoRecipient(CmsError):
    """Encrypted for keys that are not among the identities."""


class NotOpened(CmsError):
    """A fitting key was there and the content still did not open.

    Deliberately one message for every cause (wrong padding, wrong key, wrong tag): telling them
    apart is what a padding oracle needs (RFC 3218).
    """

    def __init__(self) -> None:
        super().__init__("The content cannot be decrypted: it is damaged, or not what it claims.")
