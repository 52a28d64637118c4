"""What pydantic finds wrong with an input, in the words of whoever gave it."""

from __future__ import annotations

from typing import Final

_WORDS: Final = {
    "missing": "is missing",
    "uuid_parsing": "is no id: 32 hexadecimal digits in five groups",
    "int_parsing": "is no whole number",
    "int_type": "is no whole number",
    "int_from_float": "is no whole number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "is no text",
    "list_type": "is no list",
    "tuple_type": "is no list",
    "dict_type": "is no object",
    "model_type": "is no object",
    "model_attributes_type": "is no object",
}


def in_words(kind: str, message: str) -> str:
    """A predicate for the field's name, without its full stop: `kind` and `message` are `type` and
    `msg` of one of `ValidationError.errors()`. What has no words here keeps its message, behind a
    colon."""
    words = _WORDS.get(kind)
    return f" {words}" if words else f": {message.removeprefix('Value error, ').rstrip('.')}"
