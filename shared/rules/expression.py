"""The expert's form: one expression of CEL (Common Expression Language) over the same facts.

Bounded by the library itself: nesting (32), steps of all `all` and `exists` together (10,000),
regular expressions in linear time (RE2); and here, the time of these (`matching`). What could make
texts or lists grow (`+`, `map`, `filter`) is left out of the language. A fact that is not known, or
not to its end, has no value: `&&` and `||` answer without it where they can, anything else is
answered neither yes nor no.
"""

from __future__ import annotations

import re
from collections.abc import Set
from functools import cache, lru_cache
from typing import Any, Final

from shared.errors import InvalidInput
from shared.rules import expression_hints, regular_expressions
from shared.rules.facts import RuleFacts, tag_of

LONGEST: Final = 2000
_UNSHOWABLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LEFT_OUT: Final = (
    "matches",  # the library's own: calls are `regular_expressions.NAME` when they are compiled
    *("_+_", "_-_", "_*_", "_/_", "_%_"),
    *("bytes", "string", "dyn", "duration", "timestamp"),
)
_LANGUAGE: Final = "stdlib:\n  exclude_macros: [map, filter]\n  exclude_functions:\n" + "".join(
    f"    - name: {name}\n" for name in _LEFT_OUT
)
#: Asks for header fields by their names. Any other use of `headers` may ask for all there are.
_BY_NAME: Final = re.compile(
    r"""(["'])[^"']*\1\s+in\s+headers\b|\bheaders\s*\[\s*(["'])[^"']*\2\s*\]"""
)
#: As the library begins a sentence about a place, names what it does not know, and lists at length
#: what could stand there.
_PLACE: Final = re.compile(r"(\d+):(\d+): ")
_UNKNOWN: Final = re.compile(r"undeclared reference to '([^']*)'")
_OPERATOR: Final = re.compile(r"'_(\W+)_'")
_EXPECTED: Final = re.compile(r" expecting \{.*")
#: The names that an expression may use, and what each is.
VARIABLES: Final = {
    "recipients": "list",
    "tags": "list",
    "sender": "text",
    "subject": "text",
    "headers": "map",
    "kind": "text",
    "size": "number",
    "parts": "list",
    "folder": "text",
    "connection": "text",
    "authentication": "list",
    "signature": "text",
    "encrypted": "truth",
}


def check(text: str) -> None:
    """Raises InvalidInput where it is no expression over the facts that is true or false."""
    if len(text) > LONGEST:
        raise InvalidInput(f"An expression has at most {LONGEST} characters.", field="expression")
    if _UNSHOWABLE.search(text):
        raise InvalidInput("The expression holds a control character.", field="expression")
    try:
        compiled = _compiled(text)
    except RuntimeError as error:
        raise InvalidInput(
            f"The expression is not right: {_words(error).rstrip('.')}.",
            field="expression",
            hint=expression_hints.hint(text, str(error).split("\n")[0], VARIABLES),
        ) from None
    for pattern in regular_expressions.patterns(text):
        regular_expressions.begin()
        value = _environment().compile(pattern).eval(data={})
        if value.type().name() != "BOOL":
            raise InvalidInput(
                f"The expression is not right: {_words(value.value()).rstrip('.')}.",
                field="expression",
            )
    if compiled.return_type().name() != "BOOL":
        raise InvalidInput(
            "The expression is neither true nor false.",
            field="expression",
            hint='It asks something, such as kind == "person" or !encrypted.',
        )
    expression_hints.check_words(text)


def evaluate(text: str, facts: RuleFacts) -> tuple[bool | None, str]:
    """(truth, why there is none)."""
    regular_expressions.begin()
    try:
        value = _compiled(text).eval(data=_values(text, facts))
        if value.type().name() == "BOOL":
            return bool(value.value()), ""
        problem = _words(value.value())
    except Exception as error:  # whatever a mail holds: it is given in doubt, and never lost
        problem = _words(error)
    # The library's words may hold some of the mail's.
    shown = _UNSHOWABLE.sub("", problem.partition("\n")[0])[:120]
    return None, shown or "no answer"


def _values(text: str, facts: RuleFacts) -> dict[str, Any]:
    """Of those that are known to their end: what is not there could be behind it."""
    all_recipients = facts.envelope is not None and facts.addressed_complete
    found = {
        "recipients": list(facts.recipients) if all_recipients else None,
        "tags": [tag for one in facts.recipients if (tag := tag_of(one))]
        if all_recipients
        else None,
        "sender": facts.sender,
        "subject": facts.subject if facts.has_whole_subject else None,
        "headers": None
        if facts.headers is None or _asks_what_is_cut(text, facts.headers_cut)
        else {n: list(v) for n, v in facts.headers.items()},
        "kind": facts.kind,
        "size": facts.size,
        "parts": list(facts.parts) if facts.parts is not None and facts.parts_complete else None,
        "folder": facts.folder,
        "connection": facts.connection,
        "authentication": None
        if facts.authentication is None or facts.is_cut
        else list(facts.authentication),
        "signature": facts.signature,
        "encrypted": facts.encrypted,
    }
    return {name: value for name, value in found.items() if value is not None}


def _asks_what_is_cut(text: str, cut: Set[str]) -> bool:
    """Whether an expression over header fields needs one of these to its end."""
    if not cut:
        return False
    lowered = text.lower()
    return "headers" in _BY_NAME.sub("", text) or any(name in lowered for name in cut)


@lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    return _environment().compile(regular_expressions.renamed(text))


@cache
def _environment() -> Any:
    # Imported where the first expression is: 14 MB that most processes never need.
    from cel_expr_python import cel

    texts = cel.Type.List(cel.Type.STRING)
    types = {
        "list": texts,
        "text": cel.Type.STRING,
        "map": cel.Type.Map(cel.Type.STRING, texts),
        "number": cel.Type.INT,
        "truth": cel.Type.BOOL,
    }
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(_LANGUAGE),
        variables={name: types[kind] for name, kind in VARIABLES.items()},
        functions=[regular_expressions.declaration()],
    )


def _words(error: object) -> str:
    """The library's own sentence, without its status words; what is left out of the language here
    is called so."""
    first = str(error).split("\n")[0]
    statuses = ("UNKNOWN: ", "INVALID_ARGUMENT: ", "CANCELLED: ", "INTERNAL: ")
    for word in (*statuses, "ERROR: <input>:"):
        first = first.removeprefix(word)
    first = first.split(" [")[0].replace(" (in container '')", "")[:300]
    place = _PLACE.match(first)
    if place:
        first = f"line {place[1]}, column {place[2]}: {first[place.end() :]}"
    first = _EXPECTED.sub("", _UNKNOWN.sub(_unknown, first)).replace("'<EOF>'", "the end")
    return _OPERATOR.sub(r"'\1'", first).replace(regular_expressions.NAME, "matches")


def _unknown(found: re.Match[str]) -> str:
    return f"{found[1]!r} is left out here" if found[1] in _LEFT_OUT else found[0]
