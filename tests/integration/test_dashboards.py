"""Dashboards and alert rules, as a Prometheus sees them that scrapes a running installation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import promql_parser

from shared.telemetry import metrics, totals
from tests.deploy.manifests import ROOT
from tests.deploy.test_agrees_with_code import SERVICES
from tests.deploy.test_documents import DASHBOARDS, selectors
from tests.rig.mails import mail
from tests.rig.stack import Stack
from tests.servers.dovecot import Dovecot
from tests.servers.processes import free_port
from tests.servers.prometheus import Prometheus

RULES = ROOT / "deploy/prometheus/alerts.yaml"


def test_a_fresh_installation_fires_nothing_and_fills_the_dashboards(
    redis_url: str,
    dovecot: Dovecot,
    mail_user: str,
    build_stack: Callable[..., Stack],
    tmp_path: Path,
) -> None:
    stack = build_stack(redis_url, port=str(free_port()), admin_token="a-token-of-20-characters")
    ports = {name: free_port() for name in SERVICES}
    for name, port in ports.items():
        stack.start(name, settings={"health_port": str(port)})
    with Prometheus(tmp_path, RULES, ports, namespace="one") as prometheus:
        stack.wait(prometheus.scrapes_all, "all are scraped")
        # What is pending while the services start is over; what stays would fire.
        stack.wait(lambda: set(prometheus.rules().values()) == {"inactive"}, "nothing is to fire")

        stack.add_handler()
        dovecot.deliver(mail_user, [mail(number, 2000) for number in range(3)])
        stack.watch(dovecot, mail_user)
        stack.wait_settled(3)
        told = "posthouse_published_events_total"
        stack.wait(lambda: bool(prometheus.query(f"{told} > 0")), "the events are counted")
        missing = [
            (path.stem, panel["title"], target["expr"])
            for path in DASHBOARDS
            for panel in json.loads(path.read_text())["panels"]
            for target in panel.get("targets", [])
            if not prometheus.query(chosen(target["expr"], "one"))
            if not needs_an_event(target["expr"])
        ]
        assert missing == []
        # Of another installation nothing is shown.
        assert (
            prometheus.query(chosen('posthouse_connections{namespace=~"$namespace"}', "two")) == []
        )


def chosen(expression: str, namespace: str) -> str:
    """As Grafana asks, with one installation chosen."""
    assert '"$namespace"' in expression, f"{expression} mixes installations"
    return expression.replace("$namespace", namespace)


def needs_an_event(expression: str) -> bool:
    """Whether it reads what has no sample before its first event: series with labels."""
    labels = {one.name: one.labels for one in [*metrics.described(), *totals.DESCRIBED]}
    names = {selector.name for selector in selectors(promql_parser.parse(expression))}
    return any(
        labels.get(name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum"))
        for name in names
    )
