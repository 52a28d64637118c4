"""The event in TypeScript: made of its schema, and what the example in Node is checked with."""

from __future__ import annotations

from pathlib import Path

from tests.servers.node import TYPES, beside_packages, check_types, made_types

_USE = """
import type { MailReceived } from "./schema/mail-received.v1.d.ts";
export const subject = (event: MailReceived): string => event.data.headers.subject ?? "";
export const kind = (event: MailReceived): string => event.data.mail?.KIND ?? "";
"""


def test_the_types_are_those_of_the_schema() -> None:
    assert TYPES.read_text() == made_types(), "python -m tests.servers.node writes them"


def test_the_example_keeps_to_them(tmp_path: Path) -> None:
    beside_packages(tmp_path)
    (tmp_path / "use.ts").write_text(_USE.replace("KIND", "kind"))
    assert check_types(tmp_path) == ""


def test_a_field_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    beside_packages(tmp_path)
    (tmp_path / "use.ts").write_text(_USE.replace("KIND", "knid"))
    assert "'knid' does not exist" in check_types(tmp_path)
