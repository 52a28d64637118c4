"""Each value of a label that documents, dashboards or alerts name is counted, and no other."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args

import promql_parser
import pytest

import services.fetcher
import shared.mailbox
from services.forwarder.event_forwarding import EventForwarding
from services.scheduler.emitting import _LANES
from services.scheduler.revocation_requests import Asker
from shared import errors, mail_security, revocations
from shared.connections import AfterDownload, Health
from shared.kinds import Provider
from shared.mailbox.errors.refused_mails import MailRefused
from shared.storage.ledger import LeftOnServer
from shared.store.objects import ObjectStore
from shared.telemetry import metrics
from tests.deploy.manifests import ROOT
from tests.deploy.test_documents import REFERENCE, expressions, selectors

Labels = dict[tuple[str, str], set[str]]

#: What is made with the code of a mail that is quarantined.
_QUARANTINED = {one.__name__ for one in (errors.MailFailure, MailRefused, LeftOnServer)}

#: Labels whose values are names of what an installation has, or of the product's own kinds.
OPEN = {"chore", "check", "connection", "handler", "method", "mode", "name", "queue", "route"}
OPEN |= {"service"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def words(node: ast.expr) -> set[str]:
    """The texts that an expression may be: itself, or what it chooses between."""
    match node:
        case ast.Constant(str(value)):
            return {value}
        case ast.IfExp(body=one, orelse=other):
            return words(one) | words(other)
    return set()


def given(path: str, function: str, position: int) -> set[str]:
    """What calls of `function` (or a method of this name) in a module give it at a position."""
    found: set[str] = set()
    for node in ast.walk(tree(ROOT / path)):
        if isinstance(node, ast.Call) and len(node.args) > position:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found |= words(node.args[position]) if name == function else set()
    return found


def texts(path: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


def modules(package: ModuleType) -> list[ModuleType]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    return [importlib.import_module(one.name) for one in found]


def quarantine_codes() -> set[str]:
    """Codes of failures of one mail, and those under which mails are quarantined."""
    found: set[str] = set()
    for module in [*modules(shared.mailbox), *modules(services.fetcher)]:
        path = str(Path(str(module.__file__)).relative_to(ROOT))
        for node in ast.walk(tree(ROOT / path)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", "")
                if name in _QUARANTINED:
                    for keyword in node.keywords:
                        found |= words(keyword.value) if keyword.arg == "code" else set()
    found |= {one.code for one in errors.MailFailure.__subclasses__()}
    return found | given("services/decryptor/decrypt_job.py", "move_to_quarantine", 3)


@cache
def of_code() -> Labels:
    """Metric (without its prefix) and label → what the code counts."""
    objects, asking = "shared/store/objects.py", "services/scheduler/revocation_requests.py"
    tokens, forwarding = (
        "shared/mailbox/oauth/provider.py",
        "services/forwarder/event_forwarding.py",
    )
    rows = texts("shared/storage/retention.py", r'^        \("(\w+)", "drop_')
    return {
        ("alert_deliveries_total", "outcome"): counted("ALERT_DELIVERIES", 0),
        ("connections", "health"): {one.value for one in Health},
        ("decrypted_messages_total", "status"): {*get_args(mail_security.Status)},
        ("fetches_emitted_total", "lane"): {*_LANES.values(), "own"},
        ("fetch_runs_total", "outcome"): counted("FETCH_RUNS", 1)
        | texts("services/fetcher/main.py", r'^        \w+: "([\w-]+)",$')
        | texts("services/fetcher/main.py", r'\), "(internal)"\n'),
        ("forward_workers", "state"): counted("FORWARD_WORKERS", 0),
        ("forwarded_events_total", "outcome"): given(forwarding, EventForwarding._note.__name__, 2),
        ("housekeeping_removed_total", "what"): {*rows, "message", "partition", "object", "spool"},
        ("published_events_total", "kind"): counted("PUBLISHED_EVENTS", 0),
        ("quarantined_total", "code"): quarantine_codes(),
        ("resent_total", "what"): counted("RESENT", 0),
        ("revocation_certificates", "status"): {*get_args(revocations.Status)},
        ("revocation_requests_total", "source"): given(asking, Asker._fetch.__name__, 0),
        ("revocation_requests_total", "outcome"): counted("REVOCATION_REQUESTS", 1),
        ("settled_messages_total", "action"): {one.value for one in AfterDownload},
        ("signatures_total", "signature"): {*get_args(mail_security.Signature)} - {"none"},
        ("store_requests_total", "operation"): given(objects, ObjectStore._call.__name__, 0),
        ("token_refreshes_total", "provider"): {one.value for one in Provider},
        ("token_refreshes_total", "outcome"): texts(tokens, r'outcome = "(\w+)"'),
    }


def counted(metric: str, position: int) -> set[str]:
    """The constants that the services give this label of the metric."""
    return {
        word
        for name, arguments in calls_of_labels()
        if name == metric and len(arguments) > position
        for word in words(arguments[position])
    }


@cache
def calls_of_labels() -> list[tuple[str, list[ast.expr]]]:
    found = []
    for path in [*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if ".labels(" in text else ():
            match node:
                case ast.Call(
                    func=ast.Attribute(ast.Attribute(ast.Name("metrics"), name), "labels"),
                    args=args,
                ):
                    found.append((name, args))
    return found


def documented() -> Labels:
    return {
        (metric, label): set(values.split(", "))
        for metric, labels in REFERENCE.LABEL_VALUES.items()
        for label, values in labels.items()
    }


@pytest.mark.parametrize("one", sorted(of_code()), ids=" ".join)
def test_the_documented_values_are_those_that_are_counted(one: tuple[str, str]) -> None:
    assert documented().get(one) == of_code()[one]


def test_every_label_has_its_values_documented_or_is_a_name() -> None:
    for item in [*metrics.described(), *REFERENCE.totals.DESCRIBED]:
        name = item.name.removeprefix("posthouse_")
        for label in set(item.labels) - {*REFERENCE.LABEL_VALUES.get(name, {})}:
            assert label in OPEN or (name, label) in NAMES, f"{name} {label}"


#: Labels that are a name in this metric alone.
NAMES = {
    ("http_requests_total", "status"),
    ("forwarded_events_total", "kind"),
    ("forward_seconds", "kind"),
}


def test_alerts_and_dashboards_ask_for_values_that_are_counted() -> None:
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    for _, text in expressions():
        for selector in selectors(promql_parser.parse(text)):
            name = re.sub(
                r"_(bucket|sum|count)$", "", str(selector.name).removeprefix("posthouse_")
            )
            for matcher in selector.matchers.matchers:
                asked[name, matcher.name] |= set(matcher.value.split("|"))
    known = documented()
    for one in asked.keys() & known.keys():
        assert asked[one] <= known[one], f"{' '.join(one)}: nobody counts {asked[one] - known[one]}"
    assert {("alert_deliveries_total", "outcome"), ("connections", "health")} <= asked.keys()
