"""Values of the audit log and of `apply`, as people read them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.untrusted_text import in_words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "none"),
        ("", "none"),
        ([], "none"),
        (True, "yes"),
        (False, "no"),
        (0, "0"),
        ("it's", "it's"),
        (["a", "b's", None], "a, b's, none"),
        ({"accept": [{"sender": "é"}]}, '{"accept": [{"sender": "é"}]}'),
        ([{"a": True}, {"a": None}], '[{"a": true}, {"a": null}]'),
    ],
)
def test_no_value_is_shown_as_python_writes_it(value: Any, words: str) -> None:
    assert in_words(value) == words
