"""A Prometheus of its own that scrapes the services of a test and evaluates the alert rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.servers.processes import ServerProcess, free_port

#: The shortest step with which it scrapes and evaluates here; rules keep their own times.
EVERY_S = 1


class Prometheus:
    """`targets`: service → the port of its /metrics. All are of the installation `namespace`."""

    def __init__(
        self, folder: Path, rules: Path, targets: Mapping[str, int], namespace: str
    ) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._targets = set(targets.values())
        # What the composition's Prometheus is given; here names of services lead nowhere.
        configuration = yaml.safe_load((rules.parent / "prometheus.yaml").read_text())
        every = f"{EVERY_S}s"
        configuration["global"] = {"scrape_interval": every, "evaluation_interval": every}
        configuration["rule_files"] = [
            str(rules.parent / name) for name in configuration["rule_files"]
        ]
        (job,) = configuration["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets.values()]}]
        for label in job["relabel_configs"]:
            if label["target_label"] == "namespace":
                label["replacement"] = namespace
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(configuration))
        self._process = ServerProcess(
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            log=folder / "prometheus.log",
        )

    def __enter__(self) -> Prometheus:
        self._process.wait_until(self._is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def query(self, expression: str) -> list[Any]:
        """The samples of an instant query. Raises ValueError with what is wrong in it."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=30)
        told = answer.json()
        if told["status"] != "success":
            raise ValueError(f"{expression}: {told['error']}")
        return list(told["data"]["result"])

    def rules(self) -> dict[str, str]:
        """Alert rule → inactive, pending or firing; what could not be evaluated says why."""
        told = httpx.get(f"{self.url}/api/v1/rules", timeout=30).json()
        rules = [rule for group in told["data"]["groups"] for rule in group["rules"]]
        return {rule["name"]: rule.get("lastError") or rule["state"] for rule in rules}

    def scrapes_all(self) -> bool:
        """Whether every target was scraped at least a few times, without an error."""
        found = self.query("count_over_time((up == 1)[1m:1s])")
        ports = {int(one["metric"]["instance"].rpartition(":")[2]) for one in found}
        return ports == self._targets and min(float(one["value"][1]) for one in found) >= 5

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False
