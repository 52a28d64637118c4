"""The file of `posthouse apply`: what is wrong with it is said all at once, each at its place."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from cli.declared.document import read
from cli.main import app
from shared.errors import InvalidInput

WRONG = """\
version: 1
connections:
  - name: A
    mode: imap
    usernam: x
    username: y
    interval_minutes: often
    host: h
    host: i
  - name: a
    mode: imap
    username: z
    password: plain
handler: []
handlers:
  - name: H
    forward:
      adress: https://example.org
"""


def test_everything_wrong_is_said_at_once_each_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text(WRONG)
    with pytest.raises(InvalidInput) as refused:
        read(file)
    said = [line.removeprefix(f"{file}, ") for line in str(refused.value).splitlines()]
    assert [line.split(": ")[0] for line in said] == [
        "line 5, column 5",
        "line 7, column 5",
        "line 9, column 5",
        "line 10, column 5",
        "line 13, column 5",
        "line 14, column 1",
        "line 17, column 5",
        "line 18, column 7",
    ]
    assert "connections 'A', usernam: there is no such key (did you mean 'username'?)" in said[0]
    assert "interval_minutes" in said[1]
    assert "'host' is written twice, first in line 8" in said[2]
    assert "'a' stands twice among the connections" in said[3]
    assert "a secret does not stand in the file" in said[4]
    assert "did you mean 'handlers'?" in said[5]
    assert "address" in said[6]
    assert "handlers 'H', forward, adress" in said[7]
    assert "did you mean 'address'?" in said[7]


WRONG_VALUES = """\
connections:
  - name: A
    mode: imapp
    username: y
    port: 99999
    start_from: yesterday
handlers:
  - name: Two Words
    group: No Name
    rules: {accept: [{recipent: a@example.org}]}
people:
  - name: Alice
    email: alice
webhooks:
  - name: On call
    url: env:URL
    kinds: [connection-failling]
"""


def test_values_that_would_be_refused_later_are_said_with_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text(WRONG_VALUES)
    with pytest.raises(InvalidInput) as refused:
        read(file)
    said = [line.removeprefix(f"{file}, ") for line in str(refused.value).splitlines()]
    assert [line.split(": ")[0] for line in said] == [
        f"line {number}, column {23 if number == 10 else 5}"
        for number in (3, 5, 6, 8, 9, 10, 13, 17)
    ]
    assert "'mode' is one of" in said[0]
    assert said[5].endswith("Did you mean 'recipient'?")
    assert said[7].endswith("Did you mean 'connection-failing'?")


def test_what_is_missing_or_of_another_type_is_said_in_words(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text("connections:\n  - name: A\n    tags: sales\nhandlers: all\n")
    with pytest.raises(InvalidInput) as refused:
        read(file)
    said = str(refused.value)
    assert "connections 'A', mode is missing" in said
    assert "tags is no list" in said
    assert "handlers is no list" in said


def test_a_date_needs_no_quotes(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text(
        "connections:\n"
        "- {name: a, mode: imap, host: h, username: u, password: 'env:P', start_from: 2026-11-01}\n"
    )
    assert read(file).connections[0].start_from == "2026-11-01"


def test_a_key_written_twice_is_refused_where_nothing_else_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text("handlers:\n- {name: a}\nhandlers:\n- {name: b}\n")
    with pytest.raises(InvalidInput, match="line 3, column 1: 'handlers' is written twice"):
        read(file)


def test_anchors_and_merges_are_no_repetition(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text(
        "connections:\n"
        "- &first {name: a, mode: imap, host: h, username: u}\n"
        "- {<<: *first, name: b}\n"
    )
    assert [one.name for one in read(file).connections] == ["a", "b"]


def test_a_folder_is_read_as_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("handlers: [{name: one}]")
    (tmp_path / "b.yml").write_text("handlers: [{name: two}]\npeople: [{name: Ann}]")
    (tmp_path / "README.txt").write_text("no YAML: [")
    assert [one.name for one in read(tmp_path).handlers] == ["one", "two"]
    (tmp_path / "c.yaml").write_text("people: [{name: ANN}]")
    with pytest.raises(InvalidInput, match="'ANN' stands twice among the people"):
        read(tmp_path)


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("handlers: [{name: one}]"))
    assert [one.name for one in read(Path("-")).handlers] == ["one"]


def test_the_example_of_the_document_is_such_a_file_and_fits_its_schema(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "apply.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    file = tmp_path / "posthouse.yaml"
    file.write_text(example[1])
    read_back = read(file).model_dump(mode="json", exclude_unset=True)
    assert {"certificates", "trust_anchors", "senders", "people", "webhooks"} <= set(read_back)
    shown = CliRunner().invoke(app, ["export", "--schema"])
    assert shown.exit_code == 0
    schema = json.loads(shown.output)
    Draft202012Validator.check_schema(schema)
    assert list(Draft202012Validator(schema).iter_errors(read_back)) == []
    read_back["handlers"][0]["nme"] = "x"
    assert list(Draft202012Validator(schema).iter_errors(read_back)) != []


def test_what_the_rules_refuse_is_said_with_the_rest_each_at_its_place(tmp_path: Path) -> None:
    """Whatever reads it: the form of the file, or the rules of a connection and of a handler."""
    file = tmp_path / "posthouse.yaml"
    file.write_text(
        "connections:\n"
        "- name: A\n"
        "  mode: imap\n"
        "  host: h\n"
        "  username: u\n"
        "  interval_minutes: 61\n"
        "  timeout_ms: 0\n"
        "- {name: B, mode: pop3, host: h, username: u, folder: Main}\n"
        "- {name: C, mode: imab, username: u}\n"
        "handlers:\n"
        "- name: h\n"
        "  rules: {accept: [{sendr: x}]}\n"
        "  nme: x\n"
        "- name: i\n"
        "  rules: {accept: [{sendr: x}]}\n"
    )
    with pytest.raises(InvalidInput) as refused:
        read(file)
    said = [line.removeprefix(f"{file}, ") for line in str(refused.value).splitlines()]
    assert [line.split(": ")[0] for line in said] == [
        "line 6, column 3",
        "line 7, column 3",
        "line 8, column 47",
        "line 9, column 13",
        "line 13, column 3",
        "line 15, column 21",
    ]
    assert "connections 'A', interval_minutes: " in said[0]
    assert "connections 'B', folder: " in said[2]
    assert "handlers 'i', rules: " in said[5]


WRONG_RULES = """\
handlers:
  - name: desk
    rules:
      accept:
        - kind: person
        - sender: x@y@z
          subject: fine
      reject:
        - kind: [list, persn]
        - kind person
      expression: kind = "list"
      rejct: []
  - name: text
    rules:
      accept: kind person
"""


def test_what_is_wrong_with_a_rule_is_said_at_its_own_place(tmp_path: Path) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text(WRONG_RULES)
    with pytest.raises(InvalidInput) as refused:
        read(file)
    said = [line.removeprefix(f"{file}, line ") for line in str(refused.value).splitlines()]
    assert [line.split(": ")[0] for line in said] == [
        *("6, column 11", "9, column 11", "10, column 11", "11, column 7", "12, column 7"),
        "15, column 7",
    ]
    assert "handlers 'desk', rules: Rule 2, sender: 'x@y@z'" in said[0]
    assert "Rule 3, kind: 'persn' is not known" in said[1]
    assert "is the text 'kind person'" in said[2]
    assert "this is the text 'kind person'" in said[5]


TEN_OF_TEN = "\n".join(
    ["- &a0 {b: [" + "x," * 10 + "]}"]
    + [f"- &a{n} {{b: [{','.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
)
MERGED = "\n".join(
    ["- &a0 {b: 1, c: 2}"]
    + [f"- &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"connections:\n{TEN_OF_TEN}\n- name: *a11\n", "too large, with its aliases"),
        (f"connections:\n{MERGED}\n", "too large, with its aliases"),
        ("connections: &a [*a]\n", "too large, with its aliases"),
        ("connections: " + "[" * 20_000, "nested too deeply"),
        ("connections: " + "{a: " * 3000, "nested too deeply"),
    ],
    ids=["aliases", "merges", "itself", "lists", "mappings"],
)
def test_a_few_lines_never_become_billions(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "posthouse.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=words) as caught:
        read(file)
    assert len(str(caught.value)) < 1000
