"""The OpenAPI document is true: generated requests get only the answers that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fuzz.api_fuzz import tokens_of
from tests.integration.api.conftest import Api
from tests.rig.api_requests import CALLERS, OPERATIONS


@pytest.mark.promise("T1")
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_one_that_the_document_names(operation: Any, api: Api) -> None:
    """By an administrator, and by each other role in turn, by a handler and by nobody."""
    asking = tokens_of(api)
    asking.ask(operation, examples=8, caller="admin")
    asking.ask(operation, examples=len(CALLERS))


def test_every_reference_of_the_document_leads_somewhere(api: Api) -> None:
    document = api.http.get("openapi.json").json()
    asked = list(_references(document))
    assert asked
    for reference in asked:
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            assert name in found, reference
            found = found[name]


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
