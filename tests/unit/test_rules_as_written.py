"""What stands where a rule belongs, and names of connections in expressions."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.rules.ruleset import Rules, read_rules

pytestmark = pytest.mark.promise("R1")


@pytest.mark.parametrize(
    ("accept", "field", "words"),
    [
        ("kind person", "accept", "this is the text 'kind person'. A rule holds facts"),
        ({"kind": "person"}, "accept", "one rule without a list. In YAML a dash"),
        (["kind person"], "accept[0]", "Rule 1 is the text 'kind person', and no fact"),
        ([["kind", "person"]], "accept[0]", "Rule 1 is a list, and no fact"),
        ([None], "accept[0]", "Rule 1 holds no fact."),
    ],
    ids=repr,
)
def test_what_stands_where_a_rule_belongs_is_said(accept: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_rules({"accept": accept})
    assert refused.value.field == field
    assert words in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('connection == "Old"', r'connection == "New \"1\""'),
        (
            "kind == 'list' && 'Old' != connection",
            r"""kind == 'list' && "New \"1\"" != connection""",
        ),
        ("connection in ['A', r'Old']", r"""connection in ['A', "New \"1\""]"""),
        ('connection == """Old"""', r'connection == "New \"1\""'),
        (
            "encrypted // don't\n|| connection == 'Old' // won't",
            'encrypted // don\'t\n|| connection == "New \\"1\\"" // won\'t',
        ),
        ('subject == "Old" && connection != "Other"', None),
        ("subject == \"connection == 'Old'\"", None),
        ("connection.startsWith('Old')", None),
        ("connection == 'old'", None),
        ('parts.exists(connection, connection == "Old")', None),
    ],
)
def test_an_expression_follows_the_new_name_of_a_connection(before: str, after: str | None) -> None:
    found = Rules(expression=before).renamed("Old", 'New "1"').expression
    assert found == (before if after is None else after)


@pytest.mark.parametrize(
    ("expression", "asking"),
    [
        ("connection.startsWith('Sales')", ["connection.startsWith('Sales')"]),
        (
            'connection.endsWith("EU") || connection . matches( r"^S.*U$" )',
            ['connection.endsWith("EU")', 'connection . matches( r"^S.*U$" )'],
        ),
        ("connection.contains('s') || connection.matches('^[SD]')", []),
        ("connection == 'Sales EU' || 'Sales EU' != connection", []),
        ("connection in ['Sales EU', 'B']", []),
        ("connection != 'C' && size(connection) > 3", ["connection"]),
        ("subject == 'connection' // connection", []),
        ("subject.matches(connection)", ["connection"]),
        ("parts.exists(connection, connection == 'Sales EU')", ["connection"]),
        ("encrypted", []),
        ("", []),
    ],
)
def test_what_of_an_expression_does_not_follow_a_new_name(
    expression: str, asking: list[str]
) -> None:
    assert Rules(expression=expression).not_followed("Sales EU", "Desk us") == asking


def test_an_escaped_name_in_an_expression_is_followed() -> None:
    rules = Rules(expression=r'connection == "a\"b\\c"')
    assert rules.renamed('a"b\\c', "d").expression == 'connection == "d"'
    other = Rules(expression=r"connection == '\x41'")
    assert other.renamed("A", "d") == other


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('connection == "Desk" || "Sales" == connection', ["Desk", "Sales"]),
        ("connection in ['A', r'B', \"C\"]", ["A", "B", "C"]),
        ("connection in []", []),
        ("subject == \"connection == 'A'\" // connection == 'B'", []),
        ("connection.startsWith('A') && connection != '\\x41'", []),
        ("parts.exists(connection, connection == 'A')", []),
    ],
)
def test_an_expression_says_of_which_connections_it_is(expression: str, names: list[str]) -> None:
    found = list(Rules(expression=expression).named_connections)
    assert found == [(("expression",), name) for name in names]
