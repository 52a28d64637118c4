"""The rendered overlays of deploy/k8s, as the cluster would get them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())
Manifest = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Manifest, ...]:
    """The manifests of an overlay. Needs kubectl (1.21 or later) or kustomize (4 or later)."""
    return built(K8S / "overlays" / overlay)


def with_components(overlay: str, *components: str, folder: Path) -> tuple[Manifest, ...]:
    """An overlay of one's own, as docs/operations.md says to make it."""
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / "overlays" / overlay, folder)],
        "components": [os.path.relpath(K8S / "components" / name, folder) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return built(folder)


def built(folder: Path) -> tuple[Manifest, ...]:
    kubectl, kustomize = shutil.which("kubectl"), shutil.which("kustomize")
    assert kubectl or kustomize, "Neither kubectl nor kustomize is installed."
    command = [kubectl, "kustomize"] if kubectl else [str(kustomize), "build"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> list[Manifest]:
    return [manifest for manifest in rendered(overlay) if manifest["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> Manifest:
    (found,) = [m for m in of_kind(overlay, kind) if m["metadata"]["name"] == name]
    return found


@dataclass(frozen=True)
class Container:
    """One container of one workload, with what the pod gives it."""

    overlay: str
    workload: Manifest
    pod: Manifest
    spec: Manifest

    def __str__(self) -> str:
        return f"{self.overlay}/{self.workload['metadata']['name']}/{self.spec['name']}"

    @property
    def is_posthouse(self) -> bool:
        return bool(re.match(r"posthouse(:|$)", self.spec["image"]))

    @property
    def arguments(self) -> list[str]:
        return [str(argument) for argument in self.spec.get("args", [])]

    def environment(self) -> dict[str, str]:
        """Names and values; "" where a value comes from a Secret."""
        found: dict[str, str] = {}
        for source in self.spec.get("envFrom", []):
            found |= named(self.overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in self.spec.get("env", []):
            found[entry["name"]] = entry.get("value", "")
        return found

    def ports(self) -> dict[str, int]:
        return {port["name"]: port["containerPort"] for port in self.spec.get("ports", [])}


def workloads(overlay: str) -> list[Manifest]:
    return of_kind(overlay, "Deployment", "StatefulSet", "Job")


def containers(overlay: str) -> Iterator[Container]:
    for workload in workloads(overlay):
        pod = workload["spec"]["template"]["spec"]
        for spec in [*pod.get("initContainers", []), *pod["containers"]]:
            yield Container(overlay, workload, pod, spec)


def every_container() -> list[Container]:
    return [container for overlay in OVERLAYS for container in containers(overlay)]


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """A label selector, as Kubernetes reads it (the operators that deploy/ uses)."""
    for name, value in selector.get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def pod_labels(workload: Manifest) -> dict[str, str]:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels
