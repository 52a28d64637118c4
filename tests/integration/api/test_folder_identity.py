"""What a connection says of folders that were re-created, and of servers that never tell."""

from __future__ import annotations

import pytest

from tests.integration.api.conftest import Api
from tests.integration.test_folder_identity import VALIDITY, Folder
from tests.integration.test_folder_identity import folder as folder  # the fixture
from tests.servers.scripted import ScriptedServer


@pytest.mark.promise("M27")
def test_a_server_that_never_tells_is_named(api: Api) -> None:
    made = api.create(push=True, interval_minutes=15)
    path = f"connections/{made['id']}"
    assert "push-silent" not in {w["code"] for w in api.http.get(path).json()["warnings"]}
    api.execute(
        "UPDATE connection_state SET push_silent = true WHERE connection_id = %(c)s", c=made["id"]
    )
    (warning,) = [w for w in api.http.get(path).json()["warnings"] if w["code"] == "push-silent"]
    assert "15 min" in warning["text"]


@pytest.mark.promise("M16")
def test_an_estimate_says_which_of_both_it_is(
    folder: tuple[Folder, ScriptedServer], api: Api
) -> None:
    _, server = folder
    made = api.create(host="127.0.0.1", port=server.port, security="none", selection="all")
    path = f"connections/{made['id']}/estimate"

    def remember(identity: str, validity: int) -> None:
        api.execute(
            "UPDATE connection_state SET uid_validity = %(v)s,"
            " cursor = jsonb_build_object('mailbox_id', %(i)s::text) WHERE connection_id = %(c)s",
            v=validity,
            i=identity,
            c=made["id"],
        )

    remember("F-first", VALIDITY)
    assert api.http.post(path).json()["reason"] == ""
    remember("F-first", VALIDITY - 1)
    assert "this same folder anew" in api.http.post(path).json()["reason"]
    remember("F-zeroth", VALIDITY - 1)
    estimate = api.http.post(path).json()
    assert "Another folder has this name" in estimate["reason"]
    assert estimate["confidence"] == "partial"
    remember("F-zeroth", VALIDITY)
    assert "Another folder has this name" in api.http.post(path).json()["reason"]
