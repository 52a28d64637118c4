"""The compose file beside the code: its settings, accounts and keys exist, and no others."""

from __future__ import annotations

from shared import settings
from tests.deploy.test_agrees_with_code import (
    SERVICES,
    check_command,
    check_environment,
    compose_environment,
    compose_services,
    keys_of,
    settings_of,
)


def test_compose_runs_every_service_with_settings_that_exist() -> None:
    services = compose_services()
    ours = {name: service for name, service in services.items() if "posthouse" in service["image"]}
    commands = {name: [str(word) for word in service["command"]] for name, service in ours.items()}
    assert set(SERVICES) <= {command[0] for command in commands.values()}
    for name, service in ours.items():
        check_command(commands[name])
        check_environment(compose_environment(service), settings_of(commands[name]))
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        if commands[name][0] in SERVICES:
            migration = service["depends_on"]["migrate"]
            assert migration["condition"] == "service_completed_successfully"
            kind = settings_of(commands[name])
            needed = {field for field, info in kind.model_fields.items() if info.is_required()}
            given = {
                variable.removeprefix(settings.PREFIX).removesuffix("_FILE").lower()
                for variable in compose_environment(service)
            }
            assert needed <= given


def test_compose_gives_each_service_an_account_and_keys_of_its_own() -> None:
    services = compose_services()
    migrate = compose_environment(services["migrate"])
    master = compose_environment(services["admin"])["POSTHOUSE_SECRET_KEYS"]
    for service in SERVICES:
        given = compose_environment(services[service])
        account = migrate[f"POSTHOUSE_{service.upper()}_DATABASE_URL"]
        assert given["POSTHOUSE_DATABASE_URL"] == account
        assert f"posthouse_{service}:" in account
        assert ("POSTHOUSE_ADMIN_TOKEN_FILE" in given) is (service == "admin")
        assert "POSTHOUSE_ADMIN_TOKEN" not in given
        if service != "admin":
            assert given["POSTHOUSE_SECRET_KEYS"] == keys_of(service, master)
