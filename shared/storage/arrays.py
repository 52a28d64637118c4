"""Arrays in Postgres' own text form, for parameters with hundreds of elements.

The driver adapts a list element by element and in Python, which for a batch of mails costs more
than the statement. The statement says the type: `%(ids)s::uuid[]`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

_SPECIAL = re.compile(r'["\\]')


def array(values: Iterable[str]) -> str:
    """Of values that need no quotes: numbers, UUIDs."""
    return "{" + ",".join(values) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """Of any text (Postgres: array input syntax); None is NULL."""
    quoted = ["NULL" if v is None else f'"{_SPECIAL.sub(_escaped, v)}"' for v in values]
    return "{" + ",".join(quoted) + "}"


def octets_array(values: Iterable[bytes]) -> str:
    """Of octets, for `::bytea[]`."""
    return "{" + ",".join([f'"\\\\x{value.hex()}"' for value in values]) + "}"


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]


def uuid_array(ids: Iterable[uuid.UUID]) -> str:
    return array(identifier.hex for identifier in ids)
