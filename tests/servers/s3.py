"""Two S3-compatible servers that share no code: SeaweedFS, which checks keys and rights, and moto,
over TLS."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from boto3.session import Session

from tests.servers.certificates import Authority
from tests.servers.processes import ServerProcess, accepts, free_port, private_folder

#: What docs/operations.md says that the key needs, in SeaweedFS' words.
RIGHTS = ("Read:mail", "Write:mail", "List:mail")


@dataclass(frozen=True)
class S3Server:
    """A server with an empty bucket `mail`."""

    name: str
    port: int
    process: ServerProcess
    access_key: str = "posthouse-key"
    secret_key: str = "posthouse-secret"
    #: The file of the authority that vouches for it; empty: it speaks plain HTTP.
    ca_file: str = ""

    @property
    def endpoint(self) -> str:
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.port}"

    def client(self) -> object:
        """The vendor's own client, with every right: it sees what really lies there."""
        session = Session("admin-key", "admin-secret", region_name="us-east-1")
        return session.client("s3", endpoint_url=self.endpoint, verify=self.ca_file or None)

    def stored(self) -> list[str]:
        listed = self.client().list_objects_v2(Bucket="mail")  # type: ignore[attr-defined]
        return [one["Key"] for one in listed.get("Contents", [])]


def start_seaweedfs(folder: Path, _: Authority) -> S3Server:
    admin = {"accessKey": "admin-key", "secretKey": "admin-secret"}
    own = {"accessKey": S3Server.access_key, "secretKey": S3Server.secret_key}
    identities = [
        {"name": "admin", "credentials": [admin], "actions": ["Admin"]},
        {"name": "posthouse", "credentials": [own], "actions": list(RIGHTS)},
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    port = free_port()
    argv = [str(Path(sys.prefix) / "bin" / "weed"), "server", f"-dir={folder}", "-ip=127.0.0.1"]
    argv += ["-ip.bind=127.0.0.1", "-filer", "-s3", f"-s3.port={port}", f"-s3.config={config}"]
    argv += [
        "-volume.max=20",
        "-master.volumeSizeLimitMB=64",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
    ]
    for one in ("master", "volume", "filer"):
        argv += [f"-{one}.port={free_port()}", f"-{one}.port.grpc={free_port()}"]
    argv += [f"-s3.port.grpc={free_port()}", f"-filer.localSocket={folder}/filer.sock"]
    process = ServerProcess(argv, log=folder / "weed.log", folder=folder)
    server = S3Server("seaweedfs", port, process)
    return ready(server)


def start_moto(folder: Path, authority: Authority) -> S3Server:
    port, identity = free_port(), authority.issue("127.0.0.1")
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    argv += ["-c", str(identity.certificate), "-k", str(identity.key)]
    process = ServerProcess(argv, log=folder / "moto.log", folder=folder)
    server = S3Server("moto", port, process, ca_file=str(authority.certificate))
    return ready(server)


def ready(server: S3Server) -> S3Server:
    """Once it answers; ended where it never does."""
    try:
        server.process.wait_until(lambda: accepts(server.port) and makes_bucket(server))
    except BaseException:
        server.process.kill()
        raise
    return server


def makes_bucket(server: S3Server) -> bool:
    try:
        server.client().create_bucket(Bucket="mail")  # type: ignore[attr-defined]
    except Exception:  # not up yet: botocore has a tree of its own for each service
        return False
    return True


STARTS = {"seaweedfs": start_seaweedfs, "moto": start_moto}


@pytest.fixture(scope="module", params=sorted(STARTS))
def s3_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """Each kind in turn; tests keep to prefixes of their own."""
    yield from _running(str(request.param), request.getfixturevalue("authority"))


@pytest.fixture(scope="module")
def seaweedfs(authority: Authority) -> Iterator[S3Server]:
    yield from _running("seaweedfs", authority)


@pytest.fixture(scope="module")
def moto(authority: Authority) -> Iterator[S3Server]:
    yield from _running("moto", authority)


def _running(name: str, authority: Authority) -> Iterator[S3Server]:
    folder = private_folder(name)
    try:
        server = STARTS[name](folder, authority)
        try:
            yield server
        finally:
            server.process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
