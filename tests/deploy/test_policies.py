"""checkov finds nothing in any overlay but what deploy/k8s/policy-exceptions.yaml explains."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import K8S, OVERLAYS, ROOT, rendered

EXCEPTIONS = yaml.safe_load((K8S / "policy-exceptions.yaml").read_text())


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """(check, Kind.namespace.name) of everything that failed, over all overlays."""
    checkov = Path(sys.prefix) / "policy" / "bin" / "checkov"
    assert checkov.exists(), "checkov is missing: `make .venv/.policy` installs it."
    folder = tmp_path_factory.mktemp("rendered")
    for overlay in OVERLAYS:
        text = yaml.safe_dump_all(rendered(overlay))
        (folder / f"{overlay}.yaml").write_text(text)
    done = subprocess.run(
        [
            *(str(checkov), "-d", str(folder), "--framework", "kubernetes", "--output", "json"),
            *("--skip-download", "--compact", "--quiet"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 1000, "checkov looked at too little"
    assert report["summary"]["parsing_errors"] == 0
    return {(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]}


@pytest.mark.slow
def test_every_finding_is_explained(findings: set[tuple[str, str]]) -> None:
    unexplained = [
        (check, resource)
        for check, resource in sorted(findings)
        if not any(excuses(exception, check, resource) for exception in EXCEPTIONS)
    ]
    assert unexplained == []


@pytest.mark.slow
def test_every_exception_still_excuses_something(findings: set[tuple[str, str]]) -> None:
    for exception in EXCEPTIONS:
        assert len(exception["why"]) > 40
        assert any(excuses(exception, *finding) for finding in findings), exception["check"]


def excuses(exception: dict[str, object], check: str, resource: str) -> bool:
    patterns = exception["resources"]
    assert isinstance(patterns, list)
    return exception["check"] == check and any(re.fullmatch(p, resource) for p in patterns)
