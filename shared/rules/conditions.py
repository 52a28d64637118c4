"""The conditions of a rule: one for each fact, and how it is evaluated.

Its truth is True, False, or None where the fact is not known. `FIELDS` is the whole language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Final
from unicodedata import normalize

from shared.errors import InvalidInput
from shared.mail.authentication import METHODS
from shared.mail.comparable_addresses import comparable
from shared.mail.kinds import MailKind
from shared.rules.condition_values import (
    UNITS,
    check_address,
    check_choice,
    check_header,
    check_result,
    check_size,
    check_tag,
    check_text,
    check_type,
    quoted,
    spoken_address,
    spoken_header,
    spoken_size,
)
from shared.rules.facts import RuleFacts, tag_of, without_tag

MOST_VALUES: Final = 50
LONGEST_VALUE: Final = 320
SIGNATURES: Final = (
    "none",
    "valid",
    "mismatch",
    "partial",
    "ambiguous",
    "untrusted",
    "revoked",
    "invalid",
)
#: Control characters, those that turn the direction of what follows, halves of characters.
UNSHOWABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

Truth = bool | None
Test = Callable[[str, RuleFacts], Truth]


@dataclass(frozen=True, slots=True)
class ConditionField:
    """`check` makes a value what it is kept as, raising ValueError; `phrase` reads it aloud."""

    label: str
    hint: str
    phrase: str
    check: Callable[[str], str]
    test: Test
    spoken: Callable[[str], str] = str
    choices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One fact and the values of which any may hold."""

    field: str
    values: tuple[str, ...]

    def evaluate(self, facts: RuleFacts) -> Truth:
        test = FIELDS[self.field].test
        return any_of(test(value, facts) for value in self.values)

    @property
    def sentence(self) -> str:
        field = FIELDS[self.field]
        return field.phrase.format(" or ".join(field.spoken(value) for value in self.values))

    @property
    def label(self) -> str:
        """Short, for the reason of a decision."""
        values = " or ".join(self.values)
        return values if self.field in ("kind", "sender") else f"{self.field} {values}"

    def to_json(self) -> Any:
        found: list[Any] = list(self.values)
        if self.field == "encrypted":
            found = [one == "true" for one in found]
        return found[0] if len(found) == 1 else found


def any_of(truths: Iterable[Truth]) -> Truth:
    """True where one is, else None where one is not known."""
    unknown = False
    for truth in truths:
        if truth:
            return True
        unknown = unknown or truth is None
    return None if unknown else False


def all_of(truths: Iterable[Truth]) -> Truth:
    """False where one is, else None where one is not known."""
    unknown = False
    for truth in truths:
        if truth is False:
            return False
        unknown = unknown or truth is None
    return None if unknown else True


def read_condition(field: str, value: Any, *, stored: bool = False) -> Condition:
    """Raises InvalidInput. `stored`: it was checked once, by what counted then."""
    if field not in FIELDS:
        near = get_close_matches(field, FIELDS, 1)
        hint = f"Did you mean {near[0]!r}?" if near else f"One of: {', '.join(FIELDS)}."
        raise InvalidInput(f"there is no fact {field!r}.", field="rules", hint=hint)
    given = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(given) <= MOST_VALUES:
        raise InvalidInput(f"{field}: give 1 to {MOST_VALUES} values.", field="rules")
    found = []
    for one in given:
        if isinstance(one, bool):
            one = "true" if one else "false"
        elif isinstance(one, int):
            one = str(one)
        if not isinstance(one, str) or not 1 <= len(one.strip()) <= LONGEST_VALUE:
            raise InvalidInput(
                f"{field}: a value is a text of 1 to {LONGEST_VALUE} characters.", field="rules"
            )
        if UNSHOWABLE.search(one):
            raise InvalidInput(f"{field}: a value holds a control character.", field="rules")
        try:
            found.append(FIELDS[field].check(one.strip()))
        except ValueError as error:
            if stored:
                found.append(one.strip())
                continue
            raise InvalidInput(
                f"{field}: {one.strip()!r} {error}", field="rules", hint=FIELDS[field].hint
            ) from None
    return Condition(field, tuple(dict.fromkeys(found)))


# ---- how they are evaluated


def _fits(pattern: str, address: str) -> bool:
    pattern, address = comparable(pattern), comparable(address)
    local, _, domain = pattern.rpartition("@")
    if local:
        return pattern == address or ("+" not in local and pattern == without_tag(address))
    theirs = address.rpartition("@")[2]
    return theirs.endswith(domain[1:]) if domain.startswith("*.") else theirs == domain


def _holds(text: str, wanted: str) -> bool:
    return _folded(wanted) in _folded(text)


def _folded(text: str) -> str:
    """In any case, and in one normal form: composed or not, an accent is the same (NFC)."""
    return text.lower() if text.isascii() else normalize("NFC", text.casefold())


def _sender(value: str, facts: RuleFacts) -> Truth:
    return None if facts.sender is None else _fits(value, facts.sender)


def _subject(value: str, facts: RuleFacts) -> Truth:
    return _holds(facts.subject, value) or (False if facts.has_whole_subject else None)


def _recipient(value: str, facts: RuleFacts) -> Truth:
    return _of_recipients(any(_fits(value, address) for address in facts.recipients), facts)


def _tag(value: str, facts: RuleFacts) -> Truth:
    wanted = value.lower()
    return _of_recipients(any(tag_of(one) == wanted for one in facts.recipients), facts)


def _of_recipients(holds: bool, facts: RuleFacts) -> Truth:
    """That one of them fits is known; that none does only where all of them are."""
    return holds or (None if facts.envelope is None or not facts.addressed_complete else False)


def _has_header(value: str, facts: RuleFacts) -> Truth:
    if facts.headers is None:
        return None
    name, _, text = value.partition(":")
    name = name.lower()
    if any(_holds(one, text.strip()) for one in facts.headers.get(name, ())):
        return True
    return None if facts.headers_cut & {name, ""} else False


def _in_size(value: str, facts: RuleFacts) -> Truth:
    sign, number, unit = value.split(" ")
    limit = int(number) * UNITS[unit.lower()]
    return {
        "<": facts.size < limit,
        "<=": facts.size <= limit,
        ">": facts.size > limit,
        ">=": facts.size >= limit,
    }[sign]


def _has_part(value: str, facts: RuleFacts) -> Truth:
    if facts.parts is None:
        return None
    major = value[:-1] if value.endswith("/*") else None
    if any(one.startswith(major) if major else one == value for one in facts.parts):
        return True
    return False if facts.parts_complete else None


def _in_folder(value: str, facts: RuleFacts) -> Truth:
    # A rule's value has no spaces at its ends, which the name of a folder may have.
    return facts.folder.strip() == value or facts.folder == value.upper() == "INBOX"


def _of_connection(value: str, facts: RuleFacts) -> Truth:
    if facts.connection is None:
        return None
    return facts.connection.casefold() == value.casefold()


def _authenticated(value: str, facts: RuleFacts) -> Truth:
    if facts.authentication is None:
        return None
    if value in facts.authentication:
        return True
    method, _, result = value.partition("=")
    if any(one.startswith(f"{method}=") for one in facts.authentication):
        return False
    return None if facts.is_cut else result == "none"


def _signed(value: str, facts: RuleFacts) -> Truth:
    return None if facts.signature is None else facts.signature == value


def _encrypted(value: str, facts: RuleFacts) -> Truth:
    return None if facts.encrypted is None else facts.encrypted == (value == "true")


_KINDS: Final = tuple(str(kind) for kind in MailKind)

#: Every fact that a rule may ask, in the order in which a rule is read aloud.
FIELDS: Final = {
    "recipient": ConditionField(
        "Recipient", "An address, @example.org for a domain, @*.example.org for those below it. "
        "To, Cc and the envelope count; a tag only where the value has one.",
        "addressed to {}", check_address, _recipient, spoken_address,
    ),
    "tag": ConditionField(
        "Tag", "What stands behind the plus of a recipient: billing in support+billing@…",
        "with the tag {}", check_tag, _tag, quoted,
    ),
    "sender": ConditionField(
        "Sender", "An address, @example.org for a domain, @*.example.org for those below it.",
        "from {}", check_address, _sender, spoken_address,
    ),
    "subject": ConditionField(
        "Subject", "A text that the subject holds, in any case.",
        "with {} in the subject", check_text, _subject, quoted,
    ),
    "header": ConditionField(
        "Header field", "A name, or a name and a text that it holds: X-Priority: 1",
        "with the header field {}", check_header, _has_header, spoken_header,
    ),
    "kind": ConditionField(
        "Kind", f"One of: {', '.join(_KINDS)}.",
        "of the kind {}", partial(check_choice, _KINDS),
        lambda value, facts: None if facts.kind is None else facts.kind == value,
        choices=_KINDS,
    ),
    "size": ConditionField(
        "Size", "A comparison: > 10 MB, <= 500 kB, < 2000.",
        "of {}", check_size, _in_size, spoken_size,
    ),
    "part": ConditionField(
        "Part of type", "A media type: application/pdf, or image/* for all images.",
        "with a part of the type {}", check_type, _has_part,
    ),
    "folder": ConditionField(
        "Folder", "The folder's exact name as the connection has it; INBOX for the inbox.",
        "in the folder {}", check_text, _in_folder, quoted,
    ),
    "connection": ConditionField(
        "Connection", "The name of a connection.",
        "of the connection {}", check_text, _of_connection, quoted,
    ),
    "authentication": ConditionField(
        "Authentication",
        f"A method and its result: dmarc=pass. Methods: {', '.join(METHODS)}, compauth.",
        "with the result {}", check_result, _authenticated,
    ),
    "signature": ConditionField(
        "Signature", f"One of: {', '.join(SIGNATURES)}.",
        "whose signature is {}", partial(check_choice, SIGNATURES),
        _signed, choices=SIGNATURES,
    ),
    "encrypted": ConditionField(
        "Encrypted", "true or false: whether it came encrypted.",
        "that came {}", partial(check_choice, ("true", "false")), _encrypted,
        lambda value: "encrypted" if value == "true" else "unencrypted", ("true", "false"),
    ),
}  # fmt: skip
