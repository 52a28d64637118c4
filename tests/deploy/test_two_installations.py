"""Two installations of kustomize in one cluster, as docs/operations.md says, share no object."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tests.deploy.manifests import K8S, Manifest, built, rendered

#: Without a namespace of their own; the others of the manifests have one.
OF_THE_CLUSTER = {"PriorityClass", "Namespace"}


def second(folder: Path) -> tuple[Manifest, ...]:
    """With the patch that the page has, word by word."""
    page = (K8S.parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    patch = page[page.index("namespace: posthouse-sales") :].partition("\n```")[0]
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / "overlays" / "production", folder)],
        **yaml.safe_load(patch),
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return built(folder)


def test_two_installations_share_no_object(tmp_path: Path) -> None:
    def objects(manifests: tuple[Manifest, ...]) -> set[tuple[str, str, str]]:
        return {
            (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
            for one in manifests
        }

    first, other = objects(rendered("production")), objects(second(tmp_path))
    assert len(first) == len(other)
    assert first & other == set()
    # What has no namespace is of the cluster, and known as such.
    assert {kind for kind, namespace, _ in first | other if not namespace} <= OF_THE_CLUSTER


def test_what_refers_to_an_object_of_the_cluster_follows_its_name(tmp_path: Path) -> None:
    manifests = second(tmp_path)
    (name,) = [m["metadata"]["name"] for m in manifests if m["kind"] == "PriorityClass"]
    pods = [m["spec"]["template"]["spec"] for m in manifests if m["kind"] == "Deployment"]
    assert {pod["priorityClassName"] for pod in pods} == {name}
