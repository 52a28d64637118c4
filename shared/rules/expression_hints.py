"""What to write where an expression is refused: the usual slips of who comes to CEL from elsewhere.

The library says where it stopped, in the words of a parser; a hint says what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

from shared.errors import InvalidInput
from shared.mail.addresses import lowered
from shared.mail.kinds import MailKind
from shared.rules import regular_expressions
from shared.rules.compared_texts import compared
from shared.rules.conditions import SIGNATURES

_TEXT: Final = re.compile(regular_expressions.TEXT, re.DOTALL)
_UNKNOWN: Final = re.compile(r"undeclared reference to '(?P<name>[^']*)'")
_OVERLOAD: Final = re.compile(r"overload for '(?P<call>[^']*)' applied to '\((?P<types>.*)\)'")
_COMPARE: Final = 'Comparison is == (unequal: !=), such as kind == "person".'
_JOIN: Final = "and is written &&, or is ||, not is !."
_PART_OF_TEXT: Final = 'A part of a text is asked of it: subject.contains("…").'
_PATTERN: Final = 'A regular expression is asked of a text: subject.matches("…").'
_QUESTION: Final = "It is one question that is true or false; a choice is: question ? one : other."
_OCTETS: Final = "size is a whole number of octets, without unit or quotes: size > 20000000."
_TRUTH: Final = "encrypted is true or false: encrypted, or !encrypted."
_HEADERS: Final = (
    'A header field is a list of its values: "x-loop" in headers && '
    'headers["x-loop"].exists(v, v == "…").'
)
_LIST: Final = (
    'recipients, tags, parts and authentication are lists: "…" in parts, or '
    'parts.exists(one, one.startsWith("…")).'
)
_RESULT: Final = 'authentication is a list of results: "dmarc=pass" in authentication.'
_HAS: Final = 'Whether a field is there: "x-loop" in headers; every other fact is there.'
_NO_CASE: Final = 'Asked in any case: subject.matches("(?i)…").'
#: Facts that are one of few words.
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "kind": tuple(map(str, MailKind)),
    "signature": SIGNATURES,
}
#: Facts whose texts are in lower case, whatever the mail has.
_LOWER: Final = frozenset(("sender", "recipients", "tags", "parts", "authentication", "headers"))
_NAMED: Final = frozenset((*_WORDS, "folder"))
#: What is written, its texts left out, and what is meant. The first that is found counts.
_WRITTEN: Final = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        ("[“”„‟‘’‚«»]", 'Texts stand in straight quotes: "person".'),
        ("[\"']", "A text has no end: its second quote is missing."),
        ("=~|~", f"{_PATTERN} {_PART_OF_TEXT}"),
        ("===|!==|<>|:=|(?<![=!<>])=(?!=)", _COMPARE),
        (r"(?i)(?<![.\w])(?:and|or|not|xor)\b", _JOIN),
        (r"(?<!&)&(?!&)|(?<!\|)\|(?!\|)", "Both is &&, either is ||."),
        (";", "It is one expression, without ; at its end."),
        (r"(?<![.\w])(?:if|then|else|case|when|return)\b", _QUESTION),
        (r"(?i)(?<![.\w])is\b", _COMPARE),
        (r"(?i)(?<![.\w])like\b", f"{_PART_OF_TEXT} {_PATTERN}"),
        (
            r"(?i)(?<![.\w])(?<!\.\s)(?:contains|includes|starts_?with|ends_?with)\b",
            'It is asked of a text, behind a point: subject.contains("…"), '
            'sender.endsWith("…"), subject.startsWith("…").',
        ),
        (r"(?i)\d\s*(?:[kmg]i?)?b\b|\d[,_]\d{3}", _OCTETS),
        (
            r"\.(?:exists|all|exists_one)\s*\((?!\s*\w+\s*,)",
            'exists and all take a name and a question: parts.exists(one, one == "…").',
        ),
        (
            r"\.(?:map|filter)\s*\(",
            'map and filter are left out here: parts.exists(one, one == "…").',
        ),
    )
)
#: Names and calls of other languages, in lower case, and what they are here.
_NAMES: Final = {
    "from": "sender",
    "author": "sender",
    "to": "recipients",
    "cc": "recipients",
    "type": "kind",
    "attachment": "parts",
    "attachments": "parts",
    "mailbox": "connection",
    "dkim": "authentication",
    "dmarc": "authentication",
    "spf": "authentication",
    "is_encrypted": "encrypted",
}
_CALLS: Final = {
    "includes": "contains",
    "has": "contains",
    "indexof": "contains",
    "match": "matches",
    "regex": "matches",
    "test": "matches",
    "any": "exists",
    "some": "exists",
    "every": "all",
    "len": "size",
    "length": "size",
    "count": "size",
}
_CALLED: Final = ("contains", "startsWith", "endsWith", "matches", "size", "exists", "all")
_CASES: Final = re.compile(r"(?i)(?:to_?)?(?:lower|upper)(?:case|ascii)?")


def hint(text: str, problem: str, names: Mapping[str, str]) -> str:
    """What was likely meant by `text`, which the library refused with `problem`.

    `names` are those that an expression may use, each with what it is. Where no slip is known the
    hint lists them.
    """
    code = without_texts(text)
    for pattern, meant in _WRITTEN:
        if pattern.search(code):
            return meant
    if unknown := _UNKNOWN.search(problem):
        return _of_name(unknown["name"], code, names)
    if overload := _OVERLOAD.search(problem):
        return _of_types(overload["call"].strip("_"), overload["types"], code, names)
    if "operand of a select" in problem:
        return _of_selected(code, problem)
    if "has() argument" in problem:
        return _HAS
    return every_name(names)


def check_words(text: str) -> None:
    """Raises InvalidInput where a fact of few words is compared with another one, one in lower case
    with another case, or the folder with another writing of INBOX: the answer would be the same for
    every mail."""
    for fact, word in compared(text, _LOWER, parts=True):
        if lowered(word) != word:
            raise InvalidInput(
                f"The expression is not right: {word!r} is not in lower case, and what "
                f"{fact!r} has always is.",
                field="expression",
                hint=f'Written in lower case it fits in any case: "{lowered(word)}".',
            )
    for fact, word in compared(text, _NAMED):
        if fact == "folder":
            if word != "INBOX" == word.upper():
                raise InvalidInput(
                    f"The expression is not right: the inbox is not called {word!r}.",
                    field="expression",
                    hint='Whatever its server calls it: folder == "INBOX".',
                )
        elif word not in (words := _WORDS[fact]):
            near = get_close_matches(word.lower(), words, 1)
            raise InvalidInput(
                f"The expression is not right: no mail has the {fact} {word!r}.",
                field="expression",
                hint=f"Did you mean {near[0]!r}?" if near else f"One of: {', '.join(words)}.",
            )


def every_name(names: Mapping[str, str]) -> str:
    return f"CEL over: {', '.join(names)}."


def without_texts(text: str) -> str:
    """The expression with nothing but spaces in its texts, whose quotes are gone."""
    return _TEXT.sub(lambda one: " " * len(one[0]), text)


def _of_name(name: str, code: str, names: Mapping[str, str]) -> str:
    word = name.rpartition(".")[2]
    if "." in name and word in names:
        return f"Facts stand without what they are of: {word}."
    if re.search(rf"(?<!\w){re.escape(word)}\s*\(", code):
        return _of_call(word, names)
    if (lowered := word.lower()) in ("true", "false"):
        return f"It is written {lowered}."
    if other := re.search(r"\.(any|some|every)\s*\(", code):
        return f'{other[1]} is called {_CALLS[other[1]]}: parts.exists(one, one == "…").'
    if lowered in ("body", "text", "html", "content"):
        return "Rules do not read the text of a mail: only its facts, such as subject."
    if any(lowered in words for words in _WORDS.values()):
        return f'A text stands in quotes: "{word}".'
    near = _NAMES.get(lowered) or next(iter(get_close_matches(lowered, list(names), 1)), "")
    if near and not re.search(rf"[=!]=\s*{re.escape(word)}\b", code):
        return f"Did you mean {near}?"
    if re.search(rf"(?:[=!]=|[(,\[])\s*{re.escape(word)}\b", code):
        return f'A text stands in quotes: "{word}".'
    return every_name(names)


def _of_call(word: str, names: Mapping[str, str]) -> str:
    if _CASES.fullmatch(word):
        return _NO_CASE
    if word == "size":
        return "How long a text or list is: size(subject); size alone is that of the mail."
    if word in _CALLED:
        return f'{word} is asked of a text or list, with what it needs: subject.{word}("…").'
    exact = next((one for one in _CALLED if one.lower() == word.lower().replace("_", "")), "")
    near = exact or _CALLS.get(word.lower()) or next(iter(get_close_matches(word, _CALLED, 1)), "")
    return f"Did you mean {near}?" if near else f"Calls are: {', '.join(_CALLED)}."


def _of_types(call: str, types: str, code: str, names: Mapping[str, str]) -> str:
    """Where a question is asked of what it cannot be asked of."""
    if call == "@in" and types == "string, string":
        return _PART_OF_TEXT
    if call == "!":
        return f'! stands before what is true or false: !(kind == "…"). {_COMPARE}'
    if call in ("&&", "||"):
        return 'Both sides are questions: kind == "list" || kind == "bounce".'
    if "null" in types:
        return 'Nothing is null here; a text may be empty: subject == "".'
    if call == "[_]" and types.startswith("list"):
        return _RESULT
    if "list(string)" in types:
        return _HEADERS if re.search(r"\bheaders\b", code) else _LIST
    given = types.split(", ")
    if call == "?_:":
        return _QUESTION
    if given[0] == "bool":
        return _TRUTH
    if given[0] == "int":
        return _OCTETS
    if {"int", "double", "uint"} & set(given):
        return "Of the facts only size is a number; a text stands in quotes."
    return every_name(names)


def _of_selected(code: str, problem: str) -> str:
    """Where a part is asked of what has none."""
    if re.search(r"\.(?:length|len|count|size)\b", code):
        return "How long it is: subject.size(), parts.size()."
    if re.search(r"\bauthentication\s*\.", code):
        return _RESULT
    if re.search(r"\bsender\s*\.", code):
        return 'sender is an address: sender.endsWith("@example.org").'
    return _LIST if "list" in problem else _PART_OF_TEXT
