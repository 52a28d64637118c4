"""Mails to send through the stack: of mixed sizes, each different, some of them odd."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256


def mail(number: int, size: int, seed: int = 0) -> bytes:
    """A mail of about `size` octets with CRLF line ends, unlike any other number or seed."""
    rng = random.Random(f"{seed}/{number}")
    head = (
        f"From: Sender {number} <sender{number}@example.org>\r\n"
        f"To: team@example.com\r\n"
        f"Subject: Mail number {number}\r\n"
        f"Message-ID: <{seed}.{number}.{rng.getrandbits(64):x}@example.org>\r\n"
        f"Date: Mon, 01 Jun 2026 10:{number // 60 % 60:02}:{number % 60:02} +0000\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n"
        "\r\n"
    ).encode()
    parts, length = [head], len(head)
    lines = (
        b".\r\n",
        b"..leading dots\r\n",
        "Grüße aus Köln\r\n".encode(),
        b"From the middle\r\n",
        rng.randbytes(36).hex().encode() + b"\r\n",
        b"\r\n",
    )
    while length < size:
        line = lines[rng.randrange(len(lines))]
        if size - length > 100_000:
            line = b"".join(rng.choices(lines, k=1000))
        parts.append(line)
        length += len(line)
    return b"".join(parts)


def mixed(count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` mails of log-normal sizes: most of a few kilobytes, a few of a megabyte."""
    rng = random.Random(seed)
    for number in range(count):
        size = min(1_500_000, int(rng.lognormvariate(8.6, 1.3)))
        yield mail(number, size, seed)


def digests(mails: list[bytes]) -> list[str]:
    return sorted(sha256(item).hexdigest() for item in mails)
