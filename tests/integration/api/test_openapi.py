"""The OpenAPI document is true: generated requests get only the answers that it names."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import Case

from services.admin.app import build_api
from services.admin.context import House
from tests.integration.api.conftest import Api

# The document needs no running house.
DOCUMENT = build_api(cast(House, None)).openapi()
FOUND: list[Any] = list(schemathesis.openapi.from_dict(DOCUMENT).get_all_operations())
OPERATIONS = [found.ok() for found in FOUND]


@cache
def validator(method: str, path: str, status: str) -> Draft202012Validator | None:
    """For the JSON that the document shows for an answer; None where it shows none."""
    contents = DOCUMENT["paths"][path][method]["responses"][status].get("content", {})
    schema = next((c["schema"] for kind, c in contents.items() if "json" in kind), None)
    if schema is None:
        return None
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def check(case: Case[Any], answer: Any) -> None:
    named = case.operation.definition.raw["responses"]
    assert str(answer.status_code) in named, f"{answer.status_code} is not in the document"
    assert answer.status_code != 500, answer.text
    found = validator(case.operation.method, case.operation.path, str(answer.status_code))
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 400:
        assert kind == "application/problem+json"
    if found is not None and answer.content:
        found.validate(answer.json())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_every_answer_is_one_that_the_document_names(operation: Any, api: Api) -> None:
    @settings(
        max_examples=8,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Case[Any]) -> None:
        sent = case.as_transport_kwargs(base_url=api.url)
        headers = {k: v for k, v in (sent.pop("headers", None) or {}).items() if k != "Cookie"}
        sent.pop("cookies", None)
        answer = api.session.request(**sent, headers=headers | api.authorization, timeout=60)
        check(case, answer)

    ask()
