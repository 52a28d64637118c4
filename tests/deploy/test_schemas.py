"""Every overlay renders, and a cluster would accept what it renders to."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import kubernetes_validate
import pytest
from cloudcoil.models.keda import v1alpha1
from pydantic import BaseModel

from tests.deploy.manifests import OVERLAYS, matches, of_kind, pod_labels, rendered
from tests.deploy.manifests import workloads as workloads_of

#: The oldest Kubernetes that deploy/ is for (the sleep action of preStop), and the newest known.
VERSIONS = ("1.30", "1.37")
KEDA: dict[str, Any] = {
    "ScaledObject": v1alpha1.ScaledObject,
    "TriggerAuthentication": v1alpha1.TriggerAuthentication,
}


def test_the_overlays_are_those_the_guide_tells_of() -> None:
    assert OVERLAYS == ["demo", "production", "production-hpa", "production-redis"]
    assert importlib.metadata.version("kubernetes-validate")


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_it(overlay: str, version: str) -> None:
    for manifest in rendered(overlay):
        if not manifest["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("overlay", ["production", "production-redis"])
def test_keda_accepts_it(overlay: str) -> None:
    manifests = of_kind(overlay, *KEDA)
    assert len(manifests) == 5
    for manifest in manifests:
        model = KEDA[manifest["kind"]].model_validate(manifest)
        assert unknown(manifest, model) == []


def test_an_unknown_field_of_keda_would_be_found() -> None:
    (manifest, *_) = of_kind("production", "ScaledObject")
    spelt_wrong = {**manifest, "spec": {**manifest["spec"], "maxReplicas": 3}}
    model = KEDA["ScaledObject"].model_validate(spelt_wrong)
    assert unknown(spelt_wrong, model) == ["spec.maxReplicas"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_finds_its_pods(overlay: str) -> None:
    pods = [pod_labels(workload) for workload in workloads_of(overlay)]
    for workload in workloads_of(overlay):
        if workload["kind"] != "Job":
            assert matches(workload["spec"]["selector"], pod_labels(workload))
        for constraint in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            assert matches(constraint["labelSelector"], pod_labels(workload))
    for service in of_kind(overlay, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        assert [pod for pod in pods if matches(selector, pod)], service["metadata"]["name"]
    for policy in of_kind(overlay, "NetworkPolicy"):
        chosen = [pod for pod in pods if matches(policy["spec"]["podSelector"], pod)]
        assert chosen, policy["metadata"]["name"]
    for budget in of_kind(overlay, "PodDisruptionBudget"):
        chosen = [pod for pod in pods if matches(budget["spec"]["selector"], pod)]
        assert len(chosen) == 1, budget["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_workload_has_a_budget_or_is_alone(overlay: str) -> None:
    budgets = of_kind(overlay, "PodDisruptionBudget")
    for deployment in of_kind(overlay, "Deployment"):
        if deployment["metadata"]["name"].startswith("posthouse-"):
            covering = [
                b for b in budgets if matches(b["spec"]["selector"], pod_labels(deployment))
            ]
            assert len(covering) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_under_a_network_policy_that_denies_by_default(overlay: str) -> None:
    denying = [
        policy["spec"]["podSelector"]
        for policy in of_kind(overlay, "NetworkPolicy")
        if "ingress" not in policy["spec"] and "egress" not in policy["spec"]
    ]
    for workload in workloads_of(overlay):
        assert any(matches(selector, pod_labels(workload)) for selector in denying)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_scaler_has_its_deployment_to_itself(overlay: str) -> None:
    deployments = {d["metadata"]["name"]: d for d in of_kind(overlay, "Deployment")}
    scalers = of_kind(overlay, "ScaledObject", "HorizontalPodAutoscaler")
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    assert len(targets) == len(set(targets))
    assert sorted(targets) == (
        []
        if overlay == "demo"
        else ["posthouse-decryptor", "posthouse-fetcher", "posthouse-forwarder"]
    )
    for name, deployment in deployments.items():
        assert ("replicas" in deployment["spec"]) is (name not in targets), name


def unknown(given: Any, model: Any, path: str = "") -> list[str]:
    """The fields of `given` that `model` has no name for: pydantic reads over them."""
    if isinstance(given, list) and isinstance(model, list):
        pairs = zip(given, model, strict=True)
        return [name for item, read in pairs for name in unknown(item, read, path)]
    if not isinstance(given, dict) or not isinstance(model, BaseModel):
        return []
    fields = {
        alias: name
        for name, field in type(model).model_fields.items()
        for alias in {name, field.alias or name}
    }
    found = []
    for name, value in given.items():
        here = f"{path}.{name}".lstrip(".")
        if name not in fields:
            found.append(here)
        else:
            found += unknown(value, getattr(model, fields[name]), here)
    return found
