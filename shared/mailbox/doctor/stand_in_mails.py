"""Mails and header blocks that say nothing, in place of those that were recorded.

Each is as long as what it stands for and ends its last line: over POP3 the dot behind it would
otherwise be a part of that line.
"""

from __future__ import annotations


def mail_of(octets: int, number: int) -> bytes:
    """A mail of so many octets that says nothing."""
    head = b"Subject: mail %d\r\nFrom: address@example.org\r\n\r\n" % number
    rest = octets - len(head)
    return _padding(octets) if rest < 0 or rest == 1 else head + _padding(rest)


def header_of(octets: int, number: int) -> bytes:
    """A header block of so many octets, with the empty line that ends it."""
    head = b"Subject: mail %d\r\nX-Padding: " % number
    if octets < len(head) + 4:
        # Over POP3 a block that does not end its last line would swallow the dot behind it.
        return b"x" * (octets - 4) + b"\r\n\r\n" if octets >= 4 else _padding(octets)
    lines = b"".join(
        b"x" if at % 70 else b"\r\n "
        for at in range(1, octets)  # folded, one field
    )
    return (
        head
        + lines[: octets - len(head) - 4].rstrip(b"\r\n").ljust(octets - len(head) - 4, b"x")
        + b"\r\n\r\n"
    )


def _padding(octets: int) -> bytes:
    lines = (b"x" * 70 + b"\r\n") * (octets // 72 + 1)
    cut = bytearray(lines[:octets])
    if octets >= 2:
        cut[-2:] = b"\r\n"
        if octets >= 3 and cut[-3] == 13:
            cut[-3] = ord("x")
    return bytes(cut)
