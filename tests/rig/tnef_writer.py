"""Makes streams of MS-OXTNEF as Outlook does: attachments with properties, messages in them."""

from __future__ import annotations

import struct

MESSAGE_IID = bytes.fromhex("0703020000000000c000000000000046")
_CLASS, _VERSION, _CODEPAGE = 0x00078008, 0x00089006, 0x00069007
_BODY, _MESSAGE_PROPERTIES = 0x0002800C, 0x00069003
_REND, _TITLE, _DATA, _PROPERTIES = 0x00069002, 0x00018010, 0x0006800F, 0x00069005
_UNICODE, _OBJECT, _NUMBER, _FLAG = 0x1F, 0x0D, 0x03, 0x0B
_PRIORITY = 0x0026
_METHOD, _LONG_NAME, _MIME_TAG, _CONTENT_ID, _OBJECT_ID = 0x3705, 0x3707, 0x370E, 0x3712, 0x3701


def stream(*attachments: bytes, codepage: int = 1252) -> bytes:
    """A whole one."""
    return (
        struct.pack("<IH", 0x223E9F78, 1)
        + _attribute(1, _VERSION, struct.pack("<I", 0x10000))
        + _attribute(1, _CODEPAGE, struct.pack("<II", codepage, 0))
        + _attribute(1, _CLASS, b"IPM.Microsoft Mail.Note\0")
        + contents()
        + b"".join(attachments)
    )


def contents() -> bytes:
    """The properties of the message itself."""
    return _attribute(1, _MESSAGE_PROPERTIES, _list([_number(_PRIORITY, 0)]))


def body(text: bytes) -> bytes:
    """The text of the message, as writers before MAPI have it."""
    return _attribute(1, _BODY, text)


def attachment(
    *, title: bytes | None = None, data: bytes | None = None, properties: bool = False
) -> bytes:
    """One with these attributes alone; its properties say that it is by reference."""
    return (
        _attribute(2, _REND, struct.pack("<HIHHI", 1, 0xFFFFFFFF, 32, 32, 0))
        + (b"" if title is None else _attribute(2, _TITLE, title + b"\0"))
        + (b"" if data is None else _attribute(2, _DATA, data))
        + (_attribute(2, _PROPERTIES, _list([_number(_METHOD, 2)])) if properties else b"")
    )


def file(title: bytes, content: bytes, long_name: str = "", kind: str = "", cid: str = "") -> bytes:
    """One file; without a long name only its short one tells what it is called."""
    texts = {_LONG_NAME: long_name, _MIME_TAG: kind, _CONTENT_ID: cid}
    properties = [_number(_METHOD, 1), _named_flag()]
    properties += [_text(number, text) for number, text in texts.items() if text]
    return attachment(title=title, data=content) + _attribute(2, _PROPERTIES, _list(properties))


def message(title: bytes, inner: bytes) -> bytes:
    """A message that is attached: its stream in a property."""
    properties = [_object(MESSAGE_IID + inner), _number(_METHOD, 5)]
    return attachment(title=title) + _attribute(2, _PROPERTIES, _list(properties))


def _attribute(level: int, number: int, data: bytes) -> bytes:
    head = struct.pack("<BII", level, number, len(data))
    return head + data + struct.pack("<H", sum(data) & 0xFFFF)


def _list(properties: list[bytes]) -> bytes:
    return struct.pack("<I", len(properties)) + b"".join(properties)


def _number(identifier: int, value: int) -> bytes:
    return struct.pack("<HHI", _NUMBER, identifier, value)


def _named_flag() -> bytes:
    name = "AttachmentFlag\0".encode("utf-16-le")
    padded = name + b"\0" * (-len(name) % 4)
    return (
        struct.pack("<HH", _FLAG, 0x8005)
        + b"\x29\x03\x02\0\0\0\0\0\xc0\0\0\0\0\0\0\x46"
        + struct.pack("<II", 1, len(name))
        + padded
        + struct.pack("<I", 1)
    )


def _text(identifier: int, text: str) -> bytes:
    return _variable(_UNICODE, identifier, (text + "\0").encode("utf-16-le"))


def _object(data: bytes) -> bytes:
    return _variable(_OBJECT, _OBJECT_ID, data)


def _variable(kind: int, identifier: int, data: bytes) -> bytes:
    head = struct.pack("<HHII", kind, identifier, 1, len(data))
    return head + data + b"\0" * (-len(data) % 4)
