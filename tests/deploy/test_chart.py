"""The Helm chart: the real `helm` takes it, and it makes what the overlays of kustomize make."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy.manifests import (
    K8S,
    ROOT,
    Manifest,
    matches,
    pod_labels,
    rendered,
    with_components,
)
from tests.deploy.test_agrees_with_code import EXAMPLE_SECRETS
from tests.deploy.test_schemas import KEDA, VERSIONS, unknown

CHART = ROOT / "deploy" / "helm" / "posthouse"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
#: Kinds of other people, of which no schema is at hand.
FOREIGN = ("external-secrets.io/", "gateway.networking.k8s.io/", "monitoring.coreos.com/")
#: Components to choose from, without those that the production overlays are made of.
COMPONENTS = sorted(
    path.name
    for path in (K8S / "components").iterdir()
    if path.name not in ("external", "hpa") and not path.name.startswith("keda-")
)
EVERYTHING = {
    "store": {"keys": True, "ca": True},
    "monitoring": {
        "podMonitor": True,
        "rules": True,
        "dashboards": True,
        "labels": {"team": "mail"},
    },
    "externalSecret": {"enabled": True, "storeName": "vault"},
    "httpRoute": {"enabled": True, "gateway": {"name": "public", "namespace": "gateways"}},
    "apply": {"configMap": "posthouse-files", "dryRun": True},
    "networkPolicy": {
        "identity": {"enabled": True},
        "dns": {"blocks": ["169.254.20.10/32"]},
        "extraPorts": [15672, 9000],
        "ingressFrom": {"namespaces": {"name": "ingress"}, "blocks": ["10.1.0.0/16"]},
    },
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/mail"}},
    "imagePullSecrets": [{"name": "registry"}],
    "tolerations": [{"key": "mail", "operator": "Exists"}],
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.prefix) / "bin" / "helm"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def templated(values: dict[str, Any], folder: Path, release: str = "posthouse") -> list[Manifest]:
    path = folder / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    done = helm("template", release, str(CHART), "-n", "posthouse", "-f", str(path))
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def test_helm_finds_no_fault() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("overlay", "scaled"),
    [
        ("production", "keda-rabbitmq"),
        ("production-redis", "keda-redis"),
        ("production-hpa", "hpa"),
    ],
)
def test_it_makes_what_the_overlay_makes(overlay: str, scaled: str, tmp_path: Path) -> None:
    wanted = {key(one): bare(one) for one in rendered(overlay)}
    settings = wanted["ConfigMap/posthouse-settings"]["data"]
    own = {name: value for name, value in settings.items() if name not in fixed()}
    found = templated({"settings": own, "autoscaling": {"kind": scaled}}, tmp_path)
    assert {key(one): bare(one) for one in found} == wanted


@pytest.mark.parametrize(
    ("values", "components"),
    [
        ({"store": {"keys": True, "ca": True}}, ("store-keys", "store-ca")),
        (
            {"monitoring": {"podMonitor": True, "rules": True, "dashboards": True}},
            ("monitoring",),
        ),
        ({"apply": {"configMap": "posthouse-files"}}, ("apply",)),
        ({"reloader": True}, ("reloader",)),
        ({"networkPolicy": {"identity": {"enabled": True}}}, ("network-identity",)),
        (
            {"networkPolicy": {"dns": {"blocks": ["169.254.20.10/32"]}}},
            ("network-nodelocal-dns",),
        ),
        ({"networkPolicy": {"extraPorts": [15672, 9000, 8080]}}, ("network-more-ports",)),
        (
            {"networkPolicy": {"ingressFrom": {"blocks": ["10.0.0.0/8"]}}},
            ("network-host-ingress",),
        ),
        (
            {
                "openshift": True,
                "networkPolicy": {"dns": {"namespace": "openshift-dns", "ports": [53, 5353]}},
            },
            ("openshift", "network-openshift-dns"),
        ),
        (
            {
                "ingress": {"enabled": False},
                "httpRoute": {
                    "enabled": True,
                    "gateway": {"name": "public", "namespace": "gateways"},
                },
            },
            ("http-route",),
        ),
    ],
)
def test_its_values_make_what_the_components_make(
    values: dict[str, Any], components: tuple[str, ...], tmp_path: Path
) -> None:
    wanted = {
        key(one): bare(one) for one in with_components("production", *components, folder=tmp_path)
    }
    settings = wanted["ConfigMap/posthouse-settings"]["data"]
    own = {name: value for name, value in settings.items() if name not in fixed()}
    found = templated({"settings": own, **values}, tmp_path)
    assert {key(one): bare(one) for one in found} == wanted


@pytest.mark.parametrize(
    ("overlay", "component", "values"),
    [
        (
            "production-redis",
            "keda-redis-tls",
            {"redis": {"tls": True, "username": "keda", "database": 1, "caKey": "broker-ca"}},
        ),
        ("production-redis", "keda-redis-sentinel", {"redis": {"sentinelMaster": "mymaster"}}),
        ("production", "keda-rabbitmq-ca", {"rabbitmq": {"caKey": "broker-ca"}}),
    ],
)
def test_keda_reaches_a_broker_with_more_than_a_password(
    overlay: str, component: str, values: dict[str, Any], tmp_path: Path
) -> None:
    """Of KEDA's own words for it: `unknown` finds a field that it has not."""
    wanted = {key(one): bare(one) for one in with_components(overlay, component, folder=tmp_path)}
    settings = wanted["ConfigMap/posthouse-settings"]["data"]
    own = {name: value for name, value in settings.items() if name not in fixed()}
    kind = "keda-redis" if overlay == "production-redis" else "keda-rabbitmq"
    found = templated({"settings": own, "autoscaling": {"kind": kind, **values}}, tmp_path)
    assert {key(one): bare(one) for one in found} == wanted
    assert wanted != {key(one): bare(one) for one in rendered(overlay)}
    for manifest in found:
        if manifest["kind"] in KEDA:
            model = KEDA[manifest["kind"]].model_validate(manifest)
            assert unknown(manifest, model) == []
        if manifest["kind"] == "TriggerAuthentication":
            for reference in manifest["spec"]["secretTargetRef"]:
                assert reference["key"] in EXAMPLE_SECRETS


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("component", COMPONENTS)
def test_a_cluster_takes_each_component(component: str, version: str, tmp_path: Path) -> None:
    without = rendered("production")
    changed = [
        one
        for one in with_components("production", component, folder=tmp_path)
        if one not in without
    ]
    assert changed
    for manifest in changed:
        if not manifest["apiVersion"].startswith(("keda.sh/", *FOREIGN)):
            kubernetes_validate.validate(manifest, version, strict=True)


def fixed() -> set[str]:
    """The settings that the chart itself gives."""
    text = (CHART / "templates" / "shared.yaml").read_text()
    return set(re.findall(r"^  (POSTHOUSE_\w+):", text, re.MULTILINE))


def key(manifest: Manifest) -> str:
    # kustomize adds a hash of the content to the name.
    name = re.sub(r"(settings)-\w{10}$", r"\1", manifest["metadata"]["name"])
    return f"{manifest['kind']}/{name}"


def bare(manifest: Manifest) -> Any:
    """Without what each tool has in its own way: namespace, hashes, the label of the whole."""
    text = json.dumps(manifest)
    text = re.sub(r"(posthouse-settings)-\w{10}", r"\1", text)
    found = json.loads(text)
    found["metadata"].pop("namespace", None)
    labels = found["metadata"].pop("labels", {})
    labels.pop("app.kubernetes.io/part-of", None)
    if labels:
        found["metadata"]["labels"] = labels
    annotations = found.get("spec", {}).get("template", {}).get("metadata", {}).get("annotations")
    if annotations:
        annotations.pop("posthouse/settings", None)
    return sorted_lists(found)


def sorted_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: sorted_lists(item) for name, item in value.items()}
    if isinstance(value, list):
        items = [sorted_lists(item) for item in value]
        # Their names tell which is which; arguments of a command keep their order.
        named = all(isinstance(item, dict) for item in items)
        return sorted(items, key=partial(json.dumps, sort_keys=True)) if named else items
    return value


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scaled", ["keda-rabbitmq", "keda-redis", "hpa", "none"])
def test_a_cluster_takes_all_of_it(scaled: str, version: str, tmp_path: Path) -> None:
    for manifest in templated({**EVERYTHING, "autoscaling": {"kind": scaled}}, tmp_path):
        if manifest["apiVersion"].startswith("keda.sh/"):
            model = KEDA[manifest["kind"]].model_validate(manifest)
            assert unknown(manifest, model) == []
        elif not manifest["apiVersion"].startswith(FOREIGN):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_what_applies_the_file_reaches_the_api_under_the_policies(tmp_path: Path) -> None:
    """Nobody talks to anybody but as a policy says: the Job's pod out, the API's in."""
    found = templated({"apply": {"configMap": "posthouse-files"}}, tmp_path)
    (job,) = [one for one in found if one["kind"] == "CronJob"]
    labels = job["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    (admin,) = [one for one in found if key(one) == "Deployment/posthouse-admin"]
    let_out = [
        rule
        for policy in found
        if policy["kind"] == "NetworkPolicy"
        and matches(policy["spec"]["podSelector"], labels)
        and {"port": "http"} in [p for e in policy["spec"].get("egress", []) for p in e["ports"]]
        for rule in policy["spec"]["egress"]
    ]
    assert any(matches(to["podSelector"], pod_labels(admin)) for r in let_out for to in r["to"])


def test_two_releases_share_nothing(tmp_path: Path) -> None:
    one, two = (templated(EVERYTHING, tmp_path, release) for release in ("mail", "post"))
    shared = {key(each) for each in one} & {key(each) for each in two}
    assert shared == {"ExternalSecret/posthouse-secrets"}  # a value, one for each namespace
    for selector in selectors(one):
        assert "mail" in selector.values() or "posthouse.monitoring" in selector


def selectors(manifests: list[Manifest]) -> Iterator[dict[str, str]]:
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
            yield manifest["spec"]["selector"]["matchLabels"]


def test_rules_and_dashboards_are_those_of_the_tree(tmp_path: Path) -> None:
    values = {**EVERYTHING, "settings": {"POSTHOUSE_PUBLIC_URL": "https://mail.corp.example"}}
    found = {key(one): one for one in templated(values, tmp_path)}
    text = (ROOT / "deploy/prometheus/alerts.yaml").read_text()
    rules = yaml.safe_load(
        text.replace("https://posthouse.example.com", "https://mail.corp.example")
    )
    assert found["PrometheusRule/posthouse"]["spec"] == rules
    for name in ("posthouse-overview", "posthouse-services"):
        shown = found[f"ConfigMap/posthouse-dashboard-{name}"]["data"][f"{name}.json"]
        assert json.loads(shown) == json.loads((ROOT / f"deploy/grafana/{name}.json").read_text())


def test_an_image_by_its_digest(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64
    found = templated({"image": {"repository": "r.example/p", "digest": digest}}, tmp_path)
    images = {
        container["image"]
        for one in found
        if one["kind"] == "Deployment"
        for container in one["spec"]["template"]["spec"]["containers"]
    }
    assert images == {f"r.example/p@{digest}"}


def test_openshift_chooses_the_user_itself(tmp_path: Path) -> None:
    for manifest in templated({"openshift": True}, tmp_path):
        if manifest["kind"] == "Deployment":
            security = manifest["spec"]["template"]["spec"]["securityContext"]
            assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"autoscaling": {"kind": "keda"}}, "autoscaling.kind"),
        ({"fetcher": {"replica": 3}}, "replica"),
        ({"settings": {"RETENTION_DAYS": "3"}}, "settings"),
        ({"ingres": {"enabled": False}}, "ingres"),
        ({"externalSecret": {"enabled": True}}, "externalSecret.storeName"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.gateway.name"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(
    wrong: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(wrong))
    done = helm("template", "posthouse", str(CHART), "-f", str(path))
    assert done.returncode != 0
    assert words in done.stderr


def test_every_value_is_described_and_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(VALUES)
    Draft202012Validator(schema).validate(VALUES)


def test_the_version_is_that_of_the_code() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == chart["version"] == version
