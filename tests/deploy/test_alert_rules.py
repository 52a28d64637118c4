"""The alert rules fire when they should, and not before: what Prometheus itself makes of them."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from shared.queueing.broker import build_broker
from shared.telemetry import metrics
from tests.deploy.manifests import ROOT

RULES = "deploy/prometheus/alerts.yaml"
CASES = "tests/deploy/alert_rules.yaml"


def promtool(*arguments: str) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_taken() -> None:
    promtool("check", "rules", RULES)


def test_the_configuration_beside_the_composition_is_taken() -> None:
    promtool("check", "config", "deploy/prometheus/prometheus.yaml")


def test_the_rules_fire_and_do_not_fire() -> None:
    promtool("test", "rules", CASES)


def test_each_rule_is_seen_to_fire_and_to_be_quiet() -> None:
    rules = {rule["alert"] for group in read(RULES)["groups"] for rule in group["rules"]}
    cases = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in read(CASES)["tests"]
        for case in test["alert_rule_test"]
    ]
    assert rules == {name for name, fires in cases if fires}
    assert rules == {name for name, fires in cases if not fires}


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_the_first_mail_or_job_that_is_rejected_is_a_rise_already() -> None:
    """A counter that only begins with its first event has never risen for Prometheus."""
    assert set(quarantine_codes()) <= counted("posthouse_quarantined", "code")
    build_broker("redis://127.0.0.1:1/0", queues=["decrypt"])
    assert "decrypt" in counted("posthouse_undecodable_jobs", "queue")
    assert "given-up" in counted("posthouse_alert_deliveries", "outcome")


def quarantine_codes() -> Iterator[str]:
    """Every code with which a mail is quarantined, as the source has it."""
    for path in [*ROOT.glob("shared/**/*.py"), *ROOT.glob("services/**/*.py")]:
        makers = {"MailFailure", "move_to_quarantine"} | (
            {"Refused"} if "fetcher" in path.parts else set()
        )
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and "MailFailure" in map(ast.unparse, node.bases):
                fields = [part for part in node.body if isinstance(part, ast.Assign)]
                yield from _texts(f.value for f in fields if ast.unparse(f.targets[0]) == "code")
            elif isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                if name in makers:
                    yield from _texts(word.value for word in node.keywords if word.arg == "code")
                if name == "move_to_quarantine":
                    yield from _texts(node.args[3:4])


def _texts(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant):
            yield str(node.value)


def counted(metric: str, label: str) -> set[str]:
    """Values of a label under which a counter is there before anything was counted."""
    found = (family for family in metrics.REGISTRY.collect() if family.name == metric)
    return {sample.labels[label] for family in found for sample in family.samples}
