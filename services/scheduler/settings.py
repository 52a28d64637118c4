"""The settings of the scheduler, on top of the shared ones."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import Settings


class SchedulerSettings(Settings):
    tick_seconds: float = Field(
        default=0.1, gt=0, le=10, description="Between two searches for connections that are due"
    )
    claim_batch: int = Field(
        default=2000, ge=1, le=100_000, description="Connections taken at once by one scheduler"
    )
    polls_per_job: int = Field(
        default=20, ge=1, le=1000, description="Connections that one fetch job polls"
    )
    resend_batch: int = Field(
        default=5000, ge=1, le=100_000, description="Unpublished mails sent again at once"
    )
    mails_per_job: int = Field(default=200, ge=1, le=5000, description="Mails of one decrypt job")
    output_management_url: SecretStr | None = Field(
        default=None,
        description="RabbitMQ's management address, http://user:password@host:15672: it tells "
        "how much is being handled, so that a lost queue is filled with little that was handled",
    )
    handler_check_seconds: float = Field(
        default=5, gt=0, le=300, description="Between two checks of the handlers' queues"
    )
    backlog_alert_minutes: int = Field(
        default=15, ge=1, le=10_080, description="A handler this far behind is alerted"
    )
