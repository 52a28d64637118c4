"""Pods roll when a Secret changes: by its name where kustomize makes it, else by Reloader."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import K8S, Manifest, built, with_components
from tests.deploy.test_agrees_with_code import EXAMPLE_SECRETS, SERVICES


def deployments(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    ours = [one for one in manifests if one["kind"] == "Deployment"]
    return {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: one
        for one in ours
    }


def with_generated(overlay: str, password: str, folder: Path) -> tuple[Manifest, ...]:
    """An overlay of one's own that makes the Secret, as docs/operations.md says."""
    (folder / "secrets.env").write_text(
        "".join(f"{name}={password}\n" for name in sorted(EXAMPLE_SECRETS))
    )
    written = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "posthouse",
        "resources": [os.path.relpath(K8S / "overlays" / overlay, folder)],
        "components": [os.path.relpath(K8S / "components" / "apply", folder)],
        "secretGenerator": [{"name": "posthouse-secrets", "envs": ["secrets.env"]}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return built(folder)


def test_another_content_of_a_generated_secret_is_another_pod(tmp_path: Path) -> None:
    """What changes a pod's template rolls it."""
    before, same, after = (
        deployments(with_generated("production", password, tmp_path))
        for password in ("one", "one", "two")
    )
    assert set(before) == set(SERVICES)
    for service in SERVICES:
        templates = [one[service]["spec"]["template"] for one in (before, same, after)]
        assert templates[0] == templates[1], service
        assert templates[0] != templates[2], service


@pytest.mark.parametrize("overlay", ["production", "production-redis", "production-hpa"])
def test_whatever_names_a_generated_secret_names_the_one_that_is_there(
    overlay: str, tmp_path: Path
) -> None:
    """KEDA's objects too, whose kinds kustomize does not know."""
    made = with_generated(overlay, "one", tmp_path)
    (name,) = [one["metadata"]["name"] for one in made if one["kind"] == "Secret"]
    assert name != "posthouse-secrets"
    named = re.findall(r"posthouse-secrets\S*", yaml.safe_dump_all(made))
    assert set(named) == {name}


def test_reloader_is_told_of_the_secret_that_is_mounted(tmp_path: Path) -> None:
    found = deployments(with_components("production", "reloader", folder=tmp_path))
    assert set(found) == set(SERVICES)
    for service, one in found.items():
        (watched,) = one["metadata"]["annotations"].values()
        volumes = one["spec"]["template"]["spec"]["volumes"]
        assert watched in {v["secret"]["secretName"] for v in volumes if "secret" in v}, service
