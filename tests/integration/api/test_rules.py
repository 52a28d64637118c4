"""Rules of handlers through the API and the command line: kept, tried, refused, followed."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from services.admin.operations import past_mails, rules
from shared.errors import InvalidInput
from shared.storage import ledger_rule_facts
from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_connections import problem
from tests.integration.api.test_logging_in_to_pages import log_in
from tests.integration.api.test_messages import add_mail

RULES = {
    "accept": [{"sender": "@example.org", "kind": "person"}],
    "reject": [{"size": "> 1 MB"}],
    "expression": "",
}


def handler(api: Api, name: str, **fields: Any) -> dict[str, Any]:
    answer = api.http.post("handlers", json={"name": name} | fields)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def waiting(api: Api, connection_id: int) -> int:
    """How many mails of this connection are to be decided about."""
    count = "SELECT count(*) FROM outbox WHERE connection_id = %(id)s"
    return int(api.execute(count, id=connection_id)[0][0])


@pytest.mark.promise("R1")
def test_rules_are_kept_as_they_were_given_and_read_aloud(api: Api) -> None:
    made = handler(api, "kept", rules=RULES, group="desk", position=3)
    assert made["rules"] == RULES
    assert made["sentences"] == [
        "Takes mails from anybody at example.org, of the kind person.",
        "Never takes mails of more than 1 MB.",
    ]
    assert (made["group"], made["position"]) == ("desk", 3)
    path = f"handlers/{made['id']}"
    assert api.http.patch(path, json={"description": "x"}).json()["rules"] == RULES
    cleared = api.http.patch(path, json={"rules": {}, "group": ""}).json()
    assert cleared["rules"] == {"accept": [], "reject": [], "expression": ""}
    assert cleared["sentences"] == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rules": {"accept": [{"kind": "letter"}]}}, "Rule 1, kind"),
        ({"rules": {"accept": [{"colour": "red"}]}}, "no fact 'colour'"),
        ({"rules": {"expression": "kind == 3"}}, "expression is not right"),
        ({"rules": {"accept": [{"connection": "Nowhere"}]}}, "no connection 'Nowhere'"),
        ({"rules": {"accept": [{"authentication": "sfp=pass"}]}}, "a method that no server writes"),
        ({"group": "No Name"}, "group's name"),
        ({"position": -1}, "position"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_rule_is_refused(api: Api, fields: dict[str, Any], words: str) -> None:
    answer = api.http.post("handlers", json={"name": "refused"} | fields)
    assert words in problem(answer, 422)["detail"]


def test_a_dry_run_refuses_what_saving_refuses(api: Api) -> None:
    api.create(name="Front desk")
    made = handler(api, "slip")
    body = {"rules": {"accept": [{"connection": "Frontdesk"}]}}
    tried = problem(api.http.post(f"handlers/{made['id']}/rules/dry-run", json=body), 422)
    assert (tried["detail"], tried["hint"]) == (
        "There is no connection 'Frontdesk'.",
        "Did you mean 'Front desk'?",
    )
    assert problem(api.http.patch(f"handlers/{made['id']}", json=body), 422) == tried


def test_an_expression_over_a_connection_that_is_not_there_is_refused(api: Api) -> None:
    """Names in it are compared as they stand, so that another case is another name."""
    name = api.create(name=f"Box {uuid.uuid4().hex[:8]}")["name"]
    for expression, missing, hint in (
        (f"connection == '{name} 2'", f"{name} 2", f"Did you mean {name!r}?"),
        (f"encrypted || connection in ['{name}', '{name.upper()}']", name.upper(),
         f"Did you mean {name!r}?"),
    ):  # fmt: skip
        body = {"name": "slips", "rules": {"expression": expression}}
        refused = problem(api.http.post("handlers", json=body), 422)
        assert refused["detail"] == f"There is no connection {missing!r}."
        assert refused["hint"] == hint


def test_what_the_api_says_of_rules_may_be_given_back(api: Api) -> None:
    """`posthouse export` writes it into a file for `apply`."""
    made = handler(api, "both-forms", rules={"accept": [{"encrypted": [True, False]}]})
    assert made["rules"]["accept"] == [{"encrypted": [True, False]}]
    answer = api.http.patch(f"handlers/{made['id']}", json={"rules": made["rules"]})
    assert answer.is_success, answer.text
    assert answer.json()["rules"] == made["rules"]


def test_a_rule_follows_the_new_name_of_its_connection(api: Api) -> None:
    box = api.create(name="Old name")
    given = {"accept": [{"connection": "old NAME"}], "expression": 'connection == "Old name"'}
    made = handler(api, "follows", rules=given)
    handler(api, "asks", rules={"expression": (asking := 'connection.startsWith("Old")')})
    told = api.http.patch(f"connections/{box['id']}", json={"name": "New name"}).json()["notice"]
    assert f"'asks' ({asking})" in told and "'follows'" not in told
    rules = api.http.get(f"handlers/{made['id']}").json()["rules"]
    assert rules["accept"] == [{"connection": "New name"}]
    assert rules["expression"] == 'connection == "New name"'


@pytest.mark.promise("R2")
def test_a_dry_run_says_what_would_have_been_taken_and_changes_nothing(api: Api) -> None:
    box, other = api.create(), api.create()
    known = {"facts": "{}", "published_at": "2026-01-01", "recipients": "{desk@example.net}"}
    person = add_mail(api, box["id"], sender="ann@example.org", columns=known)
    machine = add_mail(
        api, box["id"], sender="ben@example.org", columns=known | {"facts": '{"k": "auto-reply"}'}
    )
    unknown = add_mail(api, box["id"], sender="eve@example.org", columns={"facts": None})
    add_mail(api, box["id"], sender="joe@example.com", columns=known)
    add_mail(api, other["id"], sender="ann@example.org", columns=known)
    made = handler(api, "tried", connections=[box["id"]])
    path = f"handlers/{made['id']}/rules/dry-run"
    tried = api.http.post(path, json={"rules": RULES}).json()
    assert (tried["looked_at"], tried["taken"], tried["unsure"]) == (4, 2, 1)
    assert (tried["to_deliver"], tried["to_deliver_unsure"]) == (2, 1)
    assert {mail["id"] for mail in tried["listed"]} == {str(person), str(unknown)}
    reasons = {mail["id"]: mail["reason"] for mail in tried["left_out"]}
    assert reasons[str(machine)] == "no rule accepts it"
    assert tried["complete"] is True
    assert tried["not_kept"] == ""
    # Header fields are not kept: it says so.
    asked = {"accept": [{"header": "X-Loop", "sender": "@example.org"}]}
    tried = api.http.post(path, json={"rules": asked, "days": 2}).json()
    assert (tried["taken"], tried["unsure"]) == (3, 3)
    assert "not kept" in tried["not_kept"]
    # Another of its group keeps what it has, wherever it stands; what it would take, it never had.
    first = {"accept": [{"sender": "ann@example.org"}]}
    earlier = handler(api, "earlier", group="tried", position=1, rules=first)
    body = {"rules": RULES, "group": "tried", "position": 2}
    tried = api.http.post(path, json=body).json()
    assert {mail["id"] for mail in tried["listed"]} == {str(person), str(unknown)}
    give = (
        "INSERT INTO delivery (message_id, handler_id, published_at) VALUES (%(m)s, %(h)s, now())"
    )
    api.execute(give, m=person, h=earlier["id"])
    tried = api.http.post(path, json=body | {"position": 0}).json()
    assert [mail["id"] for mail in tried["listed"]] == [str(unknown)]
    assert (tried["had"], tried["to_deliver"], tried["held"]) == (0, 1, 1)
    reasons = {mail["id"]: mail["reason"] for mail in tried["left_out"]}
    assert reasons[str(person)] == "earlier of the group tried has it"
    # What it has itself counts, and stands behind what it would get.
    api.execute(give, m=unknown, h=made["id"])
    tried = api.http.post(path, json={"rules": RULES}).json()
    assert [(mail["id"], mail["had"]) for mail in tried["listed"]] == [
        (str(person), False),
        (str(unknown), True),
    ]
    assert (tried["taken"], tried["had"], tried["to_deliver"]) == (2, 1, 1)
    assert api.http.get(f"handlers/{made['id']}").json()["sentences"] == []
    assert api.execute("SELECT count(*) FROM filtered") == [(0,)]
    assert api.http.post(path, json={"rules": {"accept": [{}]}}).status_code == 422
    # Of a mail whose header was longer than is read nobody knows the kind.
    cut = known | {"findings": '[{"kind": "header-too-long", "where": 262144, "detail": ""}]'}
    long = add_mail(api, box["id"], sender="zoe@example.net", columns=cut)
    tried = api.http.post(path, json={"rules": {"accept": [{"kind": "list"}]}}).json()
    assert {mail["id"] for mail in tried["listed"]} == {str(unknown), str(long)}
    assert (tried["taken"], tried["unsure"]) == (2, 2)


@pytest.mark.promise("R2")
def test_rules_that_take_long_are_tried_on_as_many_mails_as_there_is_time_for(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is looked at after each mail, not after each page of 2,000."""
    monkeypatch.setattr(rules, "SECONDS", 0.3)
    hard = "subject.matches('[ab]{1,500}[ab]{1,400}c')"
    for _ in range(3):
        hard = f"parts.exists(p, {hard})"
    box = api.create()
    types = " ".join(f"a/{n}" for n in range(20))
    columns = {"facts": json.dumps({"p": types}), "subject": "ab" * 450}
    for _ in range(6):
        add_mail(api, box["id"], columns=columns)
    made = handler(api, "slow", connections=[box["id"]], rules={"expression": hard})
    tried = api.http.post(f"handlers/{made['id']}/rules/dry-run", json={}).json()
    assert tried["complete"] is False
    assert 0 < tried["looked_at"] < 6
    # Nor does what is asked for after it, which goes on where it ended.
    asked = {"since": "2020-01-01"}
    path = f"handlers/{made['id']}/deliver-since"
    count, calls = 0, 0
    while asked:
        given = api.http.post(path, json=asked).json()
        count, calls = count + given["count"], calls + 1
        asked = asked | {"before": given["next"]} if given["next"] else {}
    assert count == 6
    assert calls > 1
    assert waiting(api, box["id"]) == 6


@pytest.mark.promise("R2")
def test_what_was_looked_at_counts_where_the_mails_behind_it_take_too_long(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was given was on its way all the same, and neither told nor in the audit log."""
    look = ledger_rule_facts.page

    def slow(*given: Any, **how: Any) -> Any:
        if how["before"] is not None:
            raise InvalidInput("Looking at past mails was given up after 5 seconds.")
        return look(*given, **how)

    monkeypatch.setattr(past_mails, "PAGE", 2)
    monkeypatch.setattr(rules, "PAGE", 2)
    monkeypatch.setattr(ledger_rule_facts, "page", slow)
    box = api.create()
    mails = [add_mail(api, box["id"], columns={"facts": "{}"}) for _ in range(3)]
    made = handler(api, "gives-up", connections=[box["id"]])
    tried = api.http.post(f"handlers/{made['id']}/rules/dry-run", json={}).json()
    assert (tried["looked_at"], tried["complete"]) == (2, False)
    path = f"handlers/{made['id']}/deliver-since"
    given = api.http.post(path, json={"since": "2020-01-01"}).json()
    assert given == {"count": 2, "next": str(sorted(mails)[1])}
    assert waiting(api, box["id"]) == 2
    (row,) = api.execute(
        "SELECT after ->> 'count' FROM audit "
        "WHERE subject = %(s)s AND action = 'deliver past mails'",
        s=f"handler/{made['id']}",
    )
    assert row == ("2",)
    monkeypatch.undo()
    rest = {"since": "2020-01-01", "before": given["next"]}
    assert api.http.post(path, json=rest).json() == {"count": 1, "next": None}


@pytest.mark.promise("R2")
def test_the_page_goes_on_with_past_mails_where_there_are_too_many_for_one_go(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began anew with the newest, which were on their way already or not wanted."""
    monkeypatch.setattr(rules, "SECONDS", 0.0)  # one mail a go
    box = api.create()
    for _ in range(3):
        add_mail(api, box["id"], columns={"facts": "{}"})
    made = handler(api, "page", connections=[box["id"]], rules={"accept": [{"header": "X"}]})
    with httpx.Client(base_url=api.url, timeout=60) as pages:
        assert log_in(pages, token=TOKEN).status_code == 303
        path, fields = f"/handlers/{made['id']}", {"since": "2020-01-01"}
        asked = []
        while True:
            csrf = re.search(r'name="csrf" value="([^"]+)"', pages.get(path).text)
            assert csrf is not None
            answer = pages.post(f"{path}/deliver-since", data=fields | {"csrf": csrf[1]})
            page = pages.get(answer.headers["location"]).text
            asked.append(waiting(api, box["id"]))
            before = re.search(r'name="before" value="([^"]+)"', page)
            if before is None:
                break
            assert "Go on with the older ones" in page
            assert 'type="date" required value="2020-01-01"' in page
            fields["before"] = before[1]
    assert asked == [1, 2, 3]


@pytest.mark.promise("R2")
def test_the_commands_say_and_do_the_same(api: Api, posthouse: Posthouse, tmp_path: Path) -> None:
    box = api.create()
    columns = {"facts": "{}", "subject": "Taken"}
    mail = add_mail(api, box["id"], sender="ann@example.org", columns=columns)
    made = handler(api, "shell", connections=[box["id"]])
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    tried = posthouse("handlers", "rules", "dry-run", "shell", str(path))
    assert tried.code == 0, tried.err
    assert "Of 1 mail of the last 30 days this would take 1." in tried.out
    # Found by its id: a mail may have neither a subject nor a sender.
    assert re.search(rf"^{mail} .* Taken +no *$", tried.out, re.MULTILINE)
    assert "No rules" in posthouse("handlers", "rules", "show", "shell").out
    assert posthouse("handlers", "rules", "set", "shell", str(path), "--json").json == RULES
    path.write_text(yaml.safe_dump({"rules": RULES}))  # copied with its key
    assert posthouse("handlers", "rules", "set", "shell", str(path), "--json").json == RULES
    wrong = {"acept": [], "accept": [{"kind": "persn"}], "expression": "kind + 1 == 2"}
    path.write_text(yaml.safe_dump(wrong))
    for command in ("set", "dry-run"):
        refused = posthouse("handlers", "rules", command, "shell", str(path))
        assert refused.code == 2
        assert "Did you mean 'accept'?" in refused.err
        assert "Rule 1, kind: 'persn' is not known." in refused.err
        assert "'+' is left out here" in refused.err
    told = posthouse("handlers", "rules", "set", "shell", str(path), "--json")
    fields = [one["field"] for one in json.loads(told.err)["error"]["errors"]]
    assert fields == ["acept", "accept[0].kind", "expression"]
    assert "2. Never takes mails" in posthouse("handlers", "rules", "show", "shell").out
    sent = ("handlers", "rules", "deliver", "shell", "--since", "2020-01-01", "--yes", "--json")
    assert posthouse("handlers", "edit", "shell", "--disabled").code == 0
    assert "Enable it first" in posthouse(*sent).err
    assert posthouse("handlers", "edit", "shell", "--enabled").code == 0
    assert posthouse(*sent).json == {"count": 1}
    asked = "SELECT asked_handlers, initial FROM outbox WHERE connection_id = %(id)s"
    assert api.execute(asked, id=box["id"]) == [([made["id"]], False)]
    written = tmp_path / "out.yaml"
    assert posthouse("export", "-o", str(written)).code == 0
    (entry,) = [h for h in yaml.safe_load(written.read_text())["handlers"] if h["name"] == "shell"]
    assert entry["rules"] == {"accept": RULES["accept"], "reject": RULES["reject"]}
    assert posthouse("handlers", "edit", "shell", "--group", "g", "--position", "4").code == 0
    assert posthouse("handlers", "rules", "clear", "shell", "--json").json["accept"] == []
    entry |= {"rules": {"reject": [{"kind": ["bounce", "list"]}]}, "group": "other"}
    document = tmp_path / "in.yaml"
    document.write_text(yaml.safe_dump({"handlers": [entry | {"connections": "all"}]}))
    assert posthouse("apply", "-f", str(document)).code == 0
    assert posthouse("apply", "-f", str(document), "--json").json["changes"] == []
    found = api.http.get(f"handlers/{made['id']}").json()
    assert found["rules"]["reject"] == [{"kind": ["bounce", "list"]}]
    assert found["group"] == "other"
    entry["rules"] = {"reject": [{"kind": "nothing"}]}
    document.write_text(yaml.safe_dump({"handlers": [entry | {"connections": "all"}]}))
    refused = posthouse("apply", "-f", str(document))
    assert refused.code == 2
    assert "Rule 1, kind" in refused.err


@pytest.mark.promise("R1")
def test_a_handler_begins_with_its_rules(api: Api, posthouse: Posthouse, tmp_path: Path) -> None:
    """It would take mails meanwhile, were they set after it is made."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    add = ("handlers", "add", "born", "--rules", str(path), "--group", "desk", "--position", "2")
    made = posthouse(*add, "--disabled", "--json").json
    assert (made["rules"], made["enabled"]) == (RULES, False)
    assert (made["group"], made["position"]) == ("desk", 2)
    path.write_text(yaml.safe_dump({"reject": [{"kind": "persn"}]}))
    refused = posthouse("handlers", "add", "unborn", "--rules", str(path))
    assert refused.code == 2
    assert "Rule 1, kind: 'persn' is not known." in refused.err
    missing = posthouse("handlers", "add", "unborn", "--rules", str(tmp_path / "none.yaml"))
    assert (missing.code, "none.yaml cannot be read" in missing.err) == (2, True)
    assert api.http.get("handlers", params={"q": "unborn"}).json()["items"] == []


@pytest.mark.promise("R2", "H4")
def test_what_was_dropped_from_quarantine_is_no_past_mail(api: Api) -> None:
    """Nothing is known of it, so that it was taken in doubt, and delivered with the others."""
    box = api.create()
    kept = add_mail(api, box["id"], columns={"facts": "{}"})
    add_mail(api, box["id"], columns={"facts": None, "published_at": None})
    unwanted = {"facts": "{}", "published_at": None, "unwanted": True}
    nobody_s = add_mail(api, box["id"], columns=unwanted)
    made = handler(api, "after-drop", connections=[box["id"]], rules={"accept": [{"size": "> 1"}]})
    tried = api.http.post(f"handlers/{made['id']}/rules/dry-run", json={}).json()
    assert {mail["id"] for mail in tried["listed"]} == {str(kept), str(nobody_s)}
    assert (tried["looked_at"], tried["unsure"]) == (2, 0)
    asked = {"since": "2020-01-01"}
    done = api.http.post(f"handlers/{made['id']}/deliver-since", json=asked).json()
    assert done["count"] == 2


@pytest.mark.promise("R2")
def test_where_mails_are_in_doubt_only_the_most_that_are_delivered_is_said(
    api: Api, posthouse: Posthouse
) -> None:
    """Whether a mail has a header field is seen once it is read again."""
    box = api.create()
    for subject in ("known", "known", "other"):
        add_mail(api, box["id"], columns={"facts": "{}", "subject": subject})
    name = f"doubt-{uuid.uuid4().hex[:8]}"
    made = handler(api, name, connections=[box["id"]])
    rules = {"accept": [{"subject": "known"}]}
    for rule, said in ((rules, "2 mails"), ({"accept": [{"header": "X"}]}, "up to 3 mails")):
        assert api.http.patch(f"handlers/{made['id']}", json={"rules": rule}).is_success
        expected = f"{said} that it does not have are delivered by"
        told = posthouse("handlers", "rules", "dry-run", name).out
        assert expected in told or expected.replace("up", "Up") in told
        assert ("of the 3 in doubt those that fit" in told) == said.startswith("up")
        asked = posthouse("handlers", "rules", "deliver", name, "--since", "2020-01-01")
        assert f"Deliver {said.replace('mail', 'past mail')} to {name}?" in asked.err
        with httpx.Client(base_url=api.url, timeout=60) as pages:
            assert log_in(pages, token=TOKEN).status_code == 303
            path = f"/handlers/{made['id']}/rules"
            csrf = re.search(r'name="csrf" value="([^"]+)"', pages.get(path).text)
            assert csrf is not None
            way = "subject" if rule is rules else "header"
            value = "known" if rule is rules else "X"
            form = {"accept-0-0-fact": way, "accept-0-0-values": value, "do": "try"}
            page = pages.post(path, data=form | {"csrf": csrf[1]}).text
        assert expected in page
        assert ("of the 3 in doubt those that fit" in page) == said.startswith("up")
