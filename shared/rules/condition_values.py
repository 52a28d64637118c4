"""Values of conditions: how each is checked and kept (`check_…`), and how it is read aloud.

A check raises ValueError with words that go on from the value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from shared.mail.authentication import METHODS

UNITS: Final = {"": 1, "b": 1, "kb": 1000, "mb": 10**6, "gb": 10**9}
_UNIT_NAMES: Final = {1: "B", 1000: "kB", 10**6: "MB", 10**9: "GB"}
_SIZE: Final = re.compile(r"(<=|>=|<|>)\s*([0-9]{1,12})\s*([kmg]?b)?", re.I)
_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/(\*|[a-z0-9][a-z0-9!#$&^_.+-]*)")
_HEADER: Final = re.compile(r"([!-9;-~]+)(?::(.*))?", re.DOTALL)
_ADDRESS: Final = re.compile(r"[^\s@*<>(),;]*@(?:\*\.)?[^\s@*<>(),;.]+(?:\.[^\s@*<>(),;.]+)*")
_TAG: Final = re.compile(r"[^\s@]+")
_RESULT: Final = re.compile(r"([a-z0-9-]+)=([a-z0-9_-]+)")
#: What servers say of `METHODS`: RFC 8601 section 2.7, and what some write in its place.
_RESULTS: Final = (
    "none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror",
    "hardfail", "bestguesspass",
)  # fmt: skip

#: Others that servers write, with results of their own: what IANA lists (Email Authentication
#: Methods), Exchange Online's verdict on all of them, and BIMI.
_OTHER_METHODS: Final = (
    "auth", "bimi", "compauth", "dkim-adsp", "dkim-atps", "dnswl", "domainkeys", "iprev", "rrvs",
    "sender-id", "smime", "vbr",
)  # fmt: skip


def check_text(value: str) -> str:
    return value


def check_choice(choices: Sequence[str], value: str) -> str:
    if value.lower() not in choices:
        raise ValueError("is not known.")
    return value.lower()


def check_tag(value: str) -> str:
    value = value.removeprefix("+")
    if not _TAG.fullmatch(value):
        raise ValueError("is no tag: it has no white space and no at sign.")
    return value


def check_address(value: str) -> str:
    value = value.lower().removeprefix("*@")
    value = value if "@" in value else f"@{value}"
    if not _ADDRESS.fullmatch(value):
        raise ValueError("is neither an address nor a domain.")
    return value


def check_size(value: str) -> str:
    found = _SIZE.fullmatch(value)
    if not found:
        raise ValueError("is not a size.")
    return f"{found[1]} {int(found[2])} {_UNIT_NAMES[UNITS[(found[3] or '').lower()]]}"


def check_type(value: str) -> str:
    if not _TYPE.fullmatch(value.lower()):
        raise ValueError("is not a media type.")
    return value.lower()


def check_header(value: str) -> str:
    found = _HEADER.fullmatch(value)
    if not found:
        raise ValueError("is not the name of a header field.")
    text = (found[2] or "").strip()
    return f"{found[1]}: {text}" if text else found[1]


def check_result(value: str) -> str:
    found = _RESULT.fullmatch(value.lower())
    if not found:
        raise ValueError("is not a method and its result.")
    if found[1] not in METHODS and found[1] not in _OTHER_METHODS:
        raise ValueError("names a method that no server writes.")
    if found[1] in METHODS and found[2] not in _RESULTS:
        raise ValueError(f"is no result. Results: {', '.join(_RESULTS)}.")
    return found[0]


def quoted(value: str) -> str:
    return f"“{value}”"


def spoken_address(value: str) -> str:
    if value.startswith("@*."):
        return f"anybody below {value[3:]}"
    return f"anybody at {value[1:]}" if value.startswith("@") else value


def spoken_header(value: str) -> str:
    name, _, text = value.partition(": ")
    return f"{name} with “{text}” in it" if text else name


_SIGNS: Final = {"<": "less than", "<=": "at most", ">": "more than", ">=": "at least"}


def spoken_size(value: str) -> str:
    sign, _, rest = value.partition(" ")
    return f"{_SIGNS[sign]} {rest}"
