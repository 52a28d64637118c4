"""`matches` of an expression: the library's own, with a bound on the work of all of them together.

Each takes linear time (RE2), which may still be ten milliseconds where a counted repetition
overlaps with another one; an expression may call it 10,000 times.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

#: How it is called where it is compiled. As long as its own name, so that places stay the same.
NAME: Final = "Matches"
#: Seconds of the processor that one answer may spend on it.
_SECONDS: Final = 0.2
#: A single match is not interrupted. Characters of a regular expression, and how often all its
#: counted repetitions (`a{1,50}`) may repeat.
_LONGEST: Final = 500
_MOST_REPEATS: Final = 1000
_REPEATS: Final = re.compile(r"\{(?:\d+,)?(\d+),?\}")
#: A text in an expression: a raw one has no escapes, and only one in three quotes goes over lines,
#: which an apostrophe in a comment does not begin. Or `matches` where it is called.
TEXT: Final = (
    r"""[rR](?:"{3}.*?"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')"""
    r"""|"{3}(?:[^\\]|\\.)*?"{3}|'{3}(?:[^\\]|\\.)*?'{3}"""
    r"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'"""
)
COMMENT: Final = r"//[^\n]*"
_CALL: Final = re.compile(rf"{COMMENT}|{TEXT}|(\bmatches\b(?=\s*\())", re.DOTALL)
_WRITTEN_OUT: Final = re.compile(rf"\s*\((?:[^()]*,)?\s*({TEXT})\s*\)", re.DOTALL)


class _Spent(threading.local):
    """What the answer that this thread is at has spent, in seconds of the processor."""

    seconds = 0.0


_spent = _Spent()


def begin() -> None:
    """The next calls of this thread are those of another answer."""
    _spent.seconds = 0.0


def renamed(expression: str) -> str:
    """The same with calls of `matches` under `NAME`."""
    return _CALL.sub(lambda one: NAME if one[1] else one[0], expression)


def patterns(expression: str) -> Iterator[str]:
    """Regular expressions that are written out in calls of `matches`, each as an expression of its
    own that asks it of an empty text."""
    for call in _CALL.finditer(expression):
        if call[1] and (written := _WRITTEN_OUT.match(expression, call.end())):
            yield f"''.{NAME}({written[1]})"


def matches(text: str, pattern: str) -> bool:
    """Raises RuntimeError where `pattern` is none, and where it is too much work."""
    if len(pattern) > _LONGEST:
        raise RuntimeError(f"a regular expression has at most {_LONGEST} characters")
    if sum(int(one[:9]) for one in _REPEATS.findall(pattern)) > _MOST_REPEATS:
        raise RuntimeError(f"a regular expression repeats at most {_MOST_REPEATS} times by counts")
    if _spent.seconds > _SECONDS:
        raise RuntimeError("its regular expressions take too much work")
    began = time.thread_time()
    value = _one().eval(data={"text": text, "pattern": pattern})
    _spent.seconds += time.thread_time() - began
    if value.type().name() != "BOOL":
        raise RuntimeError(str(value.value()))
    return bool(value.value())


def declaration() -> Any:
    """For the environment of the library, whose own `matches` has to be left out of it."""
    from cel_expr_python import cel  # as in `expression`

    two = [cel.Type.STRING, cel.Type.STRING]
    forms = [
        cel.Overload(f"{NAME}_{form}", cel.Type.BOOL, two, is_member=form == "member", impl=matches)
        for form in ("member", "global")
    ]
    return cel.FunctionDecl(NAME, forms)


@cache
def _one() -> Any:
    from cel_expr_python import cel

    texts = {"text": cel.Type.STRING, "pattern": cel.Type.STRING}
    return cel.NewEnv(variables=texts).compile("text.matches(pattern)")
