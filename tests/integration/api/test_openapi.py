"""The OpenAPI document is true: generated requests get only the answers that it names."""

from __future__ import annotations

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
