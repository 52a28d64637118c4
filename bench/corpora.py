"""The mails of the benches: corpus A, many small ones, and corpus B, fewer large ones."""

from __future__ import annotations

import random
from collections.abc import Iterator

SMALL = 8192
_HEAD = (
    "Return-Path: <sender{n}@example.org>\r\n"
    "Received: from mx.example.org (mx.example.org [192.0.2.{low}])\r\n"
    "\tby mail.example.com (Postfix) with ESMTPS id {token}\r\n"
    "\tfor <team@example.com>; Mon, 01 Jun 2026 10:{minute:02}:{second:02} +0000 (UTC)\r\n"
    "From: Sender Number {n} <sender{n}@example.org>\r\n"
    "To: team@example.com\r\n"
    "Subject: Order {n}: a question about the delivery\r\n"
    "Message-ID: <{token}.{n}@example.org>\r\n"
    "Date: Mon, 01 Jun 2026 10:{minute:02}:{second:02} +0000\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
)


def small(count: int, size: int = SMALL, seed: int = 0) -> Iterator[bytes]:
    """`count` plain mails of exactly `size` octets; no two have the same head or body."""
    rng = random.Random(seed)
    text = b"".join(rng.randbytes(36).hex().encode() + b"\r\n" for _ in range(4096))
    for n in range(count):
        head = _HEAD.format(
            n=n,
            low=n % 256,
            token=f"{rng.getrandbits(80):020X}",
            minute=n // 60 % 60,
            second=n % 60,
        ).encode()
        start = rng.randrange(len(text) - size)
        yield head + text[start : start + size - len(head) - 2].replace(b"\n.", b"\nx") + b"\r\n"


def large(count: int, seed: int = 1) -> Iterator[bytes]:
    """`count` mails of one to ten megabytes, evenly spread, as base64 attachments look."""
    rng = random.Random(seed)
    text = b"".join(rng.randbytes(38).hex().encode() + b"\r\n" for _ in range(160_000))
    for n in range(count):
        size = rng.randrange(1_000_000, 10_000_000)
        head = _HEAD.format(
            n=n,
            low=n % 256,
            token=f"{rng.getrandbits(80):020X}",
            minute=n // 60 % 60,
            second=n % 60,
        ).encode()
        start = 78 * rng.randrange((len(text) - size) // 78)
        yield head + text[start : start + size - len(head) - 2] + b"\r\n"
