"""The OpenAPI document is true: generated requests get only the answers that it names."""

from __future__ import annotations

from typing import cast

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case, CheckContext, Response
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.admin.app import build_api
from services.admin.context import House
from tests.integration.api.conftest import TOKEN, Api


def no_mistake_of_ours(ctx: CheckContext, response: Response, case: Case) -> None:
    """500 is a mistake; 502 and 503 tell of mail servers that are not there."""
    assert response.status_code != 500, response.text


CHECKS = [
    no_mistake_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


# The document needs no running house.
schema = schemathesis.openapi.from_dict(build_api(cast(House, None)).openapi())


@schema.parametrize()
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_names(case: Case, api: Api) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = case.call(base_url=api.url, headers=headers, timeout=60)
    case.validate_response(answer, checks=CHECKS)
