"""Where in a YAML text something stands, and what is wrong with it there."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import yaml

Path = tuple[int | str, ...]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """`line` and `column` count from 1; `text` is a sentence without its end."""

    line: int
    column: int
    text: str


def fault_at(node: yaml.Node | None, path: Path, text: str) -> Fault:
    """A fault at the nearest place to `path` that the text has: a key, or an item of a list."""
    line, column = (0, 0) if node is None else _start(node)
    for part in path:
        if isinstance(node, yaml.MappingNode) and isinstance(part, str):
            found = [(k, v) for k, v in node.value if k.value == part]
            if not found:
                break
            (line, column), node = _start(found[-1][0]), found[-1][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
            line, column = _start(node)
        else:
            break
    return Fault(line + 1, column + 1, text)


def node_at(node: yaml.Node | None, path: Path) -> yaml.Node | None:
    """What stands at `path`; None where the text has nothing there."""
    for part in path:
        if isinstance(node, yaml.MappingNode) and isinstance(part, str):
            node = next((v for k, v in reversed(node.value) if k.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            node = node.value[part]
        else:
            return None
    return node


def _start(node: yaml.Node) -> tuple[int, int]:
    return (node.start_mark.line, node.start_mark.column)


def keys_written_twice(node: yaml.Node | None, seen: set[int] | None = None) -> Iterator[Fault]:
    """YAML forbids them (1.2.2 section 3.2.1.1), and its readers take the last without a word."""
    seen = set() if seen is None else seen
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from keys_written_twice(item, seen)
    if isinstance(node, yaml.MappingNode):
        first: dict[Hashable, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                if (key.tag, key.value) in first:
                    before = first[key.tag, key.value]
                    text = f"{key.value!r} is written twice, first in line {before}"
                    yield Fault(line, key.start_mark.column + 1, text)
                first.setdefault((key.tag, key.value), line)
            yield from keys_written_twice(value, seen)


def unfolded(node: yaml.Node | None, known: dict[int, float] | None = None) -> float:
    """How many nodes there are with each alias in full; infinite where one holds itself. A few
    lines of aliases of aliases are billions, and merged keys (`<<`) are copied one by one."""
    known = {} if known is None else known
    if node is None:
        return 0
    if id(node) not in known:
        known[id(node)] = float("inf")  # until it is known: whoever asks meanwhile is inside of it
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = [one for pair in node.value for one in pair]
        known[id(node)] = 1 + sum(unfolded(one, known) for one in inner)
    return known[id(node)]


def meant(word: str, known: Any) -> str:
    """` (did you mean …?)`, or nothing where no known word is like it."""
    near = get_close_matches(word, list(known), 1)
    return f" (did you mean {near[0]!r}?)" if near else ""
