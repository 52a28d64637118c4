"""Runs one service in this process, until SIGTERM or SIGINT."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import structlog

from shared import settings
from shared.errors import PosthouseError
from shared.queueing.connect import refuse_cluster
from shared.telemetry import logs, traces
from shared.telemetry.service_lifecycle import banner, stop_on_signals

SERVICES: Final = ("scheduler", "fetcher", "decryptor", "forwarder", "admin")


def run(service: str) -> None:
    """Builds a service from the environment and runs it. Raises InvalidInput on wrong settings.

    A service is `services.<name>.main` with `build(settings)` and `run(stop)`, and
    `services.<name>.settings` with `<Name>Settings`.
    """
    kind: type[settings.Settings] = getattr(
        importlib.import_module(f"services.{service}.settings"), f"{service.title()}Settings"
    )
    chosen = settings.load(kind)
    logs.configure(service, level=chosen.log_level, format=chosen.log_format)
    traces.configure(service)
    stop = stop_on_signals()
    for url in {chosen.broker_url.get_secret_value(), chosen.effective_output_url}:
        refuse_cluster(url)
    try:
        built = importlib.import_module(f"services.{service}.main").build(chosen)
        banner(
            service,
            broker=chosen.broker_url.get_secret_value().partition("://")[0],
            store=chosen.store_url,
            health_port=chosen.health_port or None,
        )
        built.run(stop)
    finally:
        traces.shutdown()
    structlog.get_logger(service).info("stopped")


def main() -> None:
    """`python -m cli.run_service SERVICE`: a service without the weight of every other command.

    `posthouse up` starts its children so; an error is told in words and exits 1.
    """
    try:
        run(sys.argv[1])
    except PosthouseError as error:
        sys.stderr.write(f"Error: {error}\n{error.hint}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
