"""Text of strangers, as a page or a terminal may show it and as Postgres takes it.

A terminal obeys C0 and C1 controls (ECMA-48), and both put a text in another order than it is in
for direction controls (the property Bidi_Control, Unicode UAX #9): `invoice<RLO>fdp.exe` would end
in `.pdf`. They are left out; what is kept, delivered and answered to programs has them.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

#: All but tabulator and line ends.
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)


def shown(text: str) -> str:
    """`text` without what would change how the rest is shown."""
    return _HIDDEN.sub("", text)


def escaped(written: str) -> str:
    """JSON with those characters escaped, as JSON escapes them."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def json_shown(value: Any, *, indent: int | None = None) -> str:
    """JSON with those characters escaped: the same to programs, and harmless in a terminal."""
    return escaped(json.dumps(value, ensure_ascii=False, indent=indent))


def storable(text: str) -> str:
    """Without what Postgres takes in no text: NUL, half of a surrogate pair."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def storable_json(value: Any) -> Any:
    """A value of JSON with its texts like that: the names in a certificate hold whatever somebody
    wrote there."""
    match value:
        case str():
            return storable(value)
        case dict():
            return {key: storable_json(one) for key, one in value.items()}
        case list() | tuple():
            return [storable_json(one) for one in value]
        case _:
            return value


def in_words(value: Any) -> str:
    """A value of JSON as people read it: a text as it is, a list with commas, what is nested as
    JSON; `none` where there is nothing."""
    if value is None or value in ("", [], {}):
        return "none"
    match value:
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case list() if not any(isinstance(one, list | dict) for one in value):
            return ", ".join(in_words(one) for one in value)
        case _:
            return json.dumps(value, ensure_ascii=False)
