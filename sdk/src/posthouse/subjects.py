"""The subject of an answer: `Re:` before that of the mail (RFC 5322 section 3.6.5)."""

from __future__ import annotations

import re
from typing import Final

#: What programs write before the subject of an answer: German, Dutch, Scandinavian, Finnish,
#: Polish, Portuguese and Spanish, Italian, French, Turkish, Welsh, Hungarian, Russian and
#: Ukrainian, Hebrew, Chinese, Japanese. Some count them: `Re[2]:`.
_WORDS: Final = (
    *("re", "aw", "antw", "sv", "vs", "odp", "res", "rif", "réf", "ynt", "atb", "vá", "отв", "від"),
    *("השב", "回复", "回覆", "答复", "答覆", "返信"),
)
_PREFIXES: Final = re.compile(
    rf"(?:\s*(?:{'|'.join(_WORDS)})\s*(?:\[\d{{1,4}}\]|\(\d{{1,4}}\))?\s*[:：])+", re.IGNORECASE
)


def answering(subject: str) -> str:
    """The subject with one `Re:` in the place of all such prefixes, in whatever language.

    Only one "ought to be used" (RFC 5322); those of forwarded mails stay.
    """
    found = _PREFIXES.match(subject)
    return f"Re: {subject[found.end() if found else 0 :].strip()}".strip()
