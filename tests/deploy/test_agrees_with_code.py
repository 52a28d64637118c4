"""Commands, settings, ports, files and queues that deploy/ names are those of the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main
import yaml
from pydantic_settings import BaseSettings

from cli.main import app
from shared import jobs, settings
from shared.storage.sealed_columns import columns_of
from shared.vault import SecretKey
from tests.deploy.manifests import (
    K8S,
    OVERLAYS,
    ROOT,
    Container,
    Manifest,
    containers,
    every_container,
    named,
    of_kind,
    pod_labels,
    workloads,
)

SERVICES = ("scheduler", "fetcher", "decryptor", "forwarder", "admin")
OURS = [container for container in every_container() if container.is_posthouse]
SECRET_FOLDER = "/run/secrets/posthouse"
#: Variables of libraries that deploy/ sets: OpenTelemetry's exporter and obstore's credentials.
FOREIGN = {"OTEL_EXPORTER_OTLP_ENDPOINT", "AWS_REGION"}
#: Not settings of a service: the demo mailbox's own.
DEMO = {"POSTHOUSE_DEMO_PASSWORD"}
EXAMPLE_SECRETS = {
    line.lstrip("# ").partition("=")[0]: line.partition("=")[2]
    for line in (K8S / "secrets.example.env").read_text().splitlines()
    if "=" in line
}


class Migration(settings.Settings, settings.MigrationSettings):
    """What `migrate` may be given: it reads its own and ignores what every service reads."""


def secrets_read(arguments: list[str]) -> set[str]:
    """The secrets that a container has to be given as files, by the names of the settings."""
    if arguments[0] == "demo":
        return set()
    kind: type[BaseSettings] = settings_of(arguments)
    if kind is Migration:
        kind = settings.MigrationSettings
    optional = {
        "output_url",
        "oidc_client_secret",
        "output_management_url",
        "store_access_key",
        "store_secret_key",
    }
    return {
        name for name, field in kind.model_fields.items() if "SecretStr" in str(field.annotation)
    } - optional


def settings_of(arguments: list[str]) -> type[settings.Settings]:
    """The settings class of the service that a container runs; the shared ones of others."""
    service = arguments[0]
    if service == "migrate" and "--wait" not in arguments:
        return Migration
    if service not in SERVICES:
        return settings.Settings
    module = importlib.import_module(f"services.{service}.settings")
    found: type[settings.Settings] = getattr(module, f"{service.title()}Settings")
    return found


def compose_services() -> dict[str, Manifest]:
    found: dict[str, Manifest] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    return found["services"]


def compose_environment(service: Manifest) -> dict[str, str]:
    """As compose sets it where nothing is set outside: `${NAME:-default}` is its default."""
    return {name: by_default(str(value)) for name, value in service.get("environment", {}).items()}


def by_default(text: str) -> str:
    """From the innermost on: a default may hold another."""
    while (reduced := re.sub(r"\${\w+:-([^${}]*)}", r"\1", text)) != text:
        text = reduced
    return text


def check_command(arguments: list[str]) -> None:
    """Fails where `posthouse ARGUMENTS` is no command, or has no such option."""
    command: Any = typer.main.get_command(app)
    context = click.Context(command)
    rest = list(arguments)
    while isinstance(command, click.Group):
        found = command.get_command(context, rest.pop(0))
        assert found is not None, arguments
        command = found
    command.make_context("posthouse", rest, resilient_parsing=False)


def check_environment(environment: dict[str, str], kind: type[settings.Settings]) -> set[str]:
    """Fails on a name that is no setting or a value it refuses; returns the fields given."""
    given: set[str] = set()
    literal: dict[str, Any] = {}
    for name, value in environment.items():
        if name in FOREIGN | DEMO:
            continue
        assert name.startswith(settings.PREFIX), name
        field = name.removeprefix(settings.PREFIX).lower()
        if field not in kind.model_fields and field.endswith("_file"):
            field = field.removesuffix("_file")
            assert field in kind.model_fields, f"{name} is no setting of {kind.__name__}"
        else:
            assert field in kind.model_fields, f"{name} is no setting of {kind.__name__}"
            literal[field] = value
        given.add(field)
    example = {
        "database_url": "postgresql://u:p@h/d",
        "broker_url": "redis://h",
        "store_url": "s3://b",
        "secret_keys": "k1:" + "A" * 43 + "=",
    }
    settings.load(kind, **{**example, **literal})
    return given


def keys_of(service: str, master: str) -> str:
    return ",".join(str(key) for key in SecretKey.parse(master).of(columns_of(service)))


@pytest.mark.parametrize("container", OURS, ids=str)
def test_the_command_exists(container: Container) -> None:
    check_command(container.arguments)


@pytest.mark.parametrize("container", OURS, ids=str)
def test_every_variable_is_a_setting_and_every_needed_setting_is_given(
    container: Container,
) -> None:
    kind = settings_of(container.arguments)
    given = check_environment(container.environment(), kind)
    if container.arguments[0] == "demo":
        return
    needed = {name for name, field in kind.model_fields.items() if field.is_required()}
    assert needed <= given


@pytest.mark.parametrize("container", OURS, ids=str)
def test_the_secrets_that_a_container_reads_are_mounted_and_no_other(container: Container) -> None:
    """The decryptor's pod has no password of a mailbox to give away, nor one of people."""
    mounts = {mount["mountPath"]: mount["name"] for mount in container.spec["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in container.pod["volumes"]}
    assert set(mounts.values()) <= set(volumes)
    read = secrets_read(container.arguments)
    if container.arguments[:2] == ["migrate", "--wait"]:
        read = secrets_read(container.pod["containers"][0]["args"])  # the pod's own files
    if not read:
        return
    secret = volumes[mounts[SECRET_FOLDER]]["secret"]
    assert secret["secretName"].startswith("posthouse-secrets")
    mounted = {item["path"]: item["key"] for item in secret["items"]}
    assert {path.replace("-", "_") for path in mounted} == read
    environment = container.environment()
    for path, key in mounted.items():
        if container.arguments[:2] != ["migrate", "--wait"]:
            name = f"{settings.PREFIX}{path.replace('-', '_').upper()}_FILE"
            assert environment[name] == f"{SECRET_FOLDER}/{path}"
        assert key in EXAMPLE_SECRETS, f"secrets.example.env does not tell of {key}"
        if container.overlay == "demo":
            assert key in named("demo", "Secret", secret["secretName"])["data"]


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_an_account_and_keys_of_its_own(service: str) -> None:
    workload = named("production", "Deployment", f"posthouse-{service}")
    pod = workload["spec"]["template"]["spec"]
    # Of the service's own container: that of the scheduler's pod cannot read what migrates.
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    (secret,) = [
        volume["secret"]
        for volume in pod["volumes"]
        if "secret" in volume and volume["name"] in mounted
    ]
    keys = {item["path"]: item["key"] for item in secret["items"]}
    assert keys["database-url"] == f"{service}-database-url"
    assert keys["secret-keys"] == ("" if service == "admin" else f"{service}-") + "secret-keys"
    assert ("admin-token" in keys) is (service == "admin")


@pytest.mark.parametrize("container", OURS, ids=str)
def test_what_it_writes_is_on_a_volume_and_bounded(container: Container) -> None:
    assert container.spec["securityContext"]["readOnlyRootFilesystem"] is True
    volumes = {volume["name"]: volume for volume in container.pod["volumes"]}
    (tmp,) = [m["name"] for m in container.spec["volumeMounts"] if m["mountPath"] == "/tmp"]
    assert "sizeLimit" in volumes[tmp]["emptyDir"]
    store = container.environment().get("POSTHOUSE_STORE_URL", "")
    if store.startswith("file://") and container.arguments[0] in {*SERVICES} - {"forwarder"}:
        path = store.removeprefix("file://")
        assert any(path.startswith(m["mountPath"] + "/") for m in container.spec["volumeMounts"])


@pytest.mark.parametrize("container", OURS, ids=str)
def test_ports_and_probes_are_where_the_service_listens(container: Container) -> None:
    service = container.arguments[0]
    if service not in SERVICES:
        return
    kind = settings_of(container.arguments)
    chosen = container.environment()
    ports = {
        name: int(chosen.get(f"POSTHOUSE_{field.upper()}") or kind.model_fields[field].default)
        for name, field in {"http": "port", "health": "health_port"}.items()
        if field in kind.model_fields
    }
    assert container.ports() == ports
    assert chosen["POSTHOUSE_HEALTH_HOST"] == "::"
    assert chosen.get("POSTHOUSE_HOST", "::") == "::"
    paths = {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    for probe, path in paths.items():
        assert container.spec[probe]["httpGet"]["path"] == path
        assert container.spec[probe]["httpGet"]["port"] == "health"
    annotations = container.workload["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["health"])
    # A check that hangs is told after five seconds; the probe must live to hear it.
    assert container.spec["readinessProbe"]["timeoutSeconds"] > 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_and_ingresses_lead_to_ports_that_exist(overlay: str) -> None:
    ports_of = {
        workload["metadata"]["name"]: {
            port["name"]
            for spec in workload["spec"]["template"]["spec"]["containers"]
            for port in spec.get("ports", [])
        }
        for workload in workloads(overlay)
    }
    for service in of_kind(overlay, "Service"):
        selector = service["spec"]["selector"]
        for workload in workloads(overlay):
            if selector.items() <= pod_labels(workload).items():
                for port in service["spec"]["ports"]:
                    assert port["targetPort"] in ports_of[workload["metadata"]["name"]]
                    # Metrics and readiness are not for whom an ingress lets in.
                    assert port["targetPort"] != "health"
    for ingress in of_kind(overlay, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = named(overlay, "Service", backend["name"])
                names = {port["name"] for port in service["spec"]["ports"]}
                assert backend["port"]["name"] in names


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_runs_once_after_the_migration(overlay: str) -> None:
    deployed = [
        container.arguments[0]
        for container in containers(overlay)
        if container.is_posthouse and container.workload["kind"] == "Deployment"
        if container.spec in container.pod["containers"]
    ]
    assert sorted(s for s in deployed if s in SERVICES) == sorted(SERVICES)
    for deployment in of_kind(overlay, "Deployment"):
        name = deployment["metadata"]["name"]
        if name.startswith("posthouse-"):
            (first,) = deployment["spec"]["template"]["spec"]["initContainers"]
            wanted = ["migrate"] if name == "posthouse-scheduler" else ["migrate", "--wait", "600"]
            assert first["args"] == wanted
    # What is applied again with another setting cannot be a Job: its template never changes.
    assert of_kind(overlay, "Job") == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_run_the_one_image_with_the_version_of_the_code(overlay: str) -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {c.spec["image"] for c in containers(overlay) if c.is_posthouse}
    assert images == {f"posthouse:{version}"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_time_to_finish_what_it_holds(overlay: str) -> None:
    from services.fetcher.settings import FetcherSettings

    fields = FetcherSettings.model_fields
    needed = fields["slice_seconds"].default + fields["read_timeout_seconds"].default
    fetcher = named(overlay, "Deployment", "posthouse-fetcher")["spec"]["template"]["spec"]
    assert fetcher["terminationGracePeriodSeconds"] > needed
    for deployment in of_kind(overlay, "Deployment"):
        if deployment["metadata"]["name"].startswith("posthouse-"):
            update = deployment["spec"]["strategy"]["rollingUpdate"]
            assert update == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("overlay", ["production", "production-redis"])
def test_the_scalers_watch_every_queue_of_their_service(overlay: str) -> None:
    expected = {
        "posthouse-fetcher": {jobs.FETCH_QUEUE, jobs.FETCH_SLOW_QUEUE},
        "posthouse-decryptor": {jobs.DECRYPT_QUEUE},
    }
    for scaled in of_kind(overlay, "ScaledObject"):
        if scaled["metadata"]["name"] == "posthouse-forwarder":
            continue  # asks Postgres: test_scaled_queues.py
        watched = {
            (trigger["metadata"].get("queueName") or queue_of(trigger["metadata"]["listName"]))
            for trigger in scaled["spec"]["triggers"]
        }
        assert watched == expected[scaled["metadata"]["name"]]
    for authentication in of_kind(overlay, "TriggerAuthentication"):
        for reference in authentication["spec"]["secretTargetRef"]:
            assert reference["key"] in EXAMPLE_SECRETS


def queue_of(hash_name: str) -> str:
    """dramatiq's Redis broker keeps the messages of queue `q` in the hash `dramatiq:q.msgs`."""
    prefix, _, rest = hash_name.partition(":")
    assert prefix == "dramatiq"
    assert rest.endswith(".msgs")
    return rest.removesuffix(".msgs")


def test_a_roll_out_of_the_whole_demo_finds_room_on_a_node_of_two_cores() -> None:
    """A changed setting rolls every service at once, each new pod beside the old one."""
    of_the_cluster = 900  # millicores: what kubeadm's control plane and DNS request, and a little
    asked = 0
    for workload in workloads("demo"):
        spec = workload["spec"]
        strategy = spec.get("strategy", {})
        surge = strategy.get("rollingUpdate", {}).get("maxSurge", 0)
        if workload["kind"] == "Deployment" and "type" not in strategy:
            surge = 1  # a quarter, rounded up: Kubernetes' own choice
        for container in spec["template"]["spec"]["containers"]:
            requested = container["resources"]["requests"]["cpu"]
            assert requested.endswith("m")
            asked += int(requested.removesuffix("m")) * (spec["replicas"] + surge)
    assert asked <= 2000 - of_the_cluster, asked


def test_the_demo_secrets_are_what_the_demo_runs_with() -> None:
    secrets = dict(
        line.partition("=")[::2]
        for line in (K8S / "overlays/demo/secrets.env").read_text().splitlines()
    )
    assert secrets["postgres-password"] in secrets["database-url"]
    services = {service["metadata"]["name"] for service in of_kind("demo", "Service")}
    assert "@postgres/" in secrets["database-url"]
    assert "//redis:" in secrets["broker-url"]
    assert {"postgres", "redis", "mailbox"} <= services
    for service in ("scheduler", "fetcher", "decryptor", "forwarder"):
        assert secrets[f"{service}-secret-keys"] == keys_of(service, secrets["secret-keys"])
        assert f"posthouse_{service}:" in secrets[f"{service}-database-url"]


def test_the_image_is_built_from_files_that_exist() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = [
        source
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
        if not source.startswith("--")
    ]
    assert copied
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in, f".dockerignore keeps {source} from the build"
    assert 'ENTRYPOINT ["posthouse"]' in text
    assert Path(ROOT / "requirements" / "image.lock").exists()
