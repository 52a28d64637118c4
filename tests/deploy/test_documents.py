"""Every metric, alert and setting of the documents exists in the code, and the other way round."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import promql_parser
import pytest
import yaml

from services.admin.pages import documents
from shared.telemetry import metrics, totals
from tests.deploy.manifests import ROOT

DOCS = ROOT / "docs"
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = reference()


def series() -> dict[str, set[str]]:
    """Every series that the code can show, with its labels."""
    found: dict[str, set[str]] = {}
    for item in [*metrics.described(), *totals.DESCRIBED]:
        labels = set(item.labels)
        if item.kind == "histogram":
            found[f"{item.name}_bucket"] = labels | {"le"}
            found[f"{item.name}_sum"] = found[f"{item.name}_count"] = labels
        elif item.kind == "info":
            found[item.name] = labels | {"service", "version"}
        else:
            found[item.name] = labels
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None and not isinstance(child, str):
            yield from selectors(child)
    for child in getattr(node, "args", None) or []:
        yield from selectors(child)


@pytest.mark.parametrize("name", ["settings", "metrics", "logs"])
def test_the_reference_is_what_the_code_says(name: str) -> None:
    written = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert written == getattr(REFERENCE, f"{name}_text")(), "run `python docs/reference.py`"


#: Keys that every line has: a field of this name would take their place, or they its.
TAKEN = {"message", "event", "level", "logger", "service", "timestamp", "trace_id", "span_id"}


@pytest.mark.parametrize("event", sorted(set(REFERENCE.log_events())), ids=lambda e: e.words)
def test_log_events_have_one_style_and_known_fields(event: Any) -> None:
    assert re.fullmatch(r"(?!(a|an|the) )[a-z][A-Za-z ,]+", event.words), "words alone, no article"
    assert not TAKEN & set(event.fields)
    assert set(event.fields) <= set(REFERENCE.LOG_FIELDS), "say in docs/reference.py what it holds"


def test_every_log_field_is_logged() -> None:
    logged = {name for event in REFERENCE.log_events() for name in event.fields}
    assert set(REFERENCE.LOG_FIELDS) == logged


def test_every_setting_that_documents_name_exists() -> None:
    known = set(re.findall(r"(?:POSTHOUSE|OTEL)_[A-Z_]+", REFERENCE.settings_text()))
    known |= {f"{name}_FILE" for name in known}
    pages = [ROOT / "README.md", *DOCS.glob("**/*.md"), *ROOT.glob("deploy/**/*.yaml")]
    for page in pages:
        named = set(re.findall(r"\bPOSTHOUSE_[A-Z][A-Z_]*[A-Z]\b", page.read_text("utf-8")))
        assert named <= known, f"{page.relative_to(ROOT)}: {sorted(named - known)}"


def test_every_variable_that_the_code_names_is_documented() -> None:
    known = set(re.findall(r"POSTHOUSE_[A-Z_]+", REFERENCE.settings_text()))
    for folder in ("cli", "services", "shared"):
        for path in (ROOT / folder).rglob("*.py"):
            named = set(re.findall(r"\bPOSTHOUSE_[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8")))
            named -= {f"{name}_FILE" for name in known}
            assert named <= known, f"{path.relative_to(ROOT)}: {sorted(named - known)}"


@pytest.mark.parametrize(("where", "expression"), list(expressions()), ids=lambda text: text[:60])
def test_every_expression_reads_series_and_labels_that_exist(where: str, expression: str) -> None:
    known = series()
    found = list(selectors(promql_parser.parse(expression)))
    assert found, where
    for selector in found:
        if selector.name.startswith("process_"):
            continue
        assert selector.name in known, f"{where} reads {selector.name}"
        given = {matcher.name for matcher in selector.matchers.matchers} - {"namespace"}
        assert given <= known[selector.name], f"{where}: {selector.name} has no {given}"


def test_the_dashboards_show_every_metric_that_is_not_for_alerts_alone() -> None:
    read = {s.name for _, text in expressions() for s in selectors(promql_parser.parse(text))}
    unseen = {
        item.name
        for item in [*metrics.described(), *totals.DESCRIBED]
        if not {item.name, f"{item.name}_bucket", f"{item.name}_count"} & read
    }
    assert unseen == set()


def test_every_alert_has_a_section_in_the_runbook_and_the_other_way_round() -> None:
    text = (DOCS / "runbook.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    told = {section.splitlines()[0].strip(): section for section in sections}
    assert set(told) == {rule["alert"] for rule in RULES}
    for rule in RULES:
        url = rule["annotations"]["runbook_url"]
        # The admin service has it under its own address, which stands in the Ingress too.
        assert url.startswith("https://posthouse.example.com/documents/runbook#")
        assert f'id="{url.partition("#")[2]}">{rule["alert"]}</h2>' in documents.as_html("runbook")
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert part in told[rule["alert"]], f"{rule['alert']} lacks {part}"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_documents_link_to_what_is_there() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
