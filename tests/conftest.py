"""The fixtures of the servers; each lives in the module of its server."""

pytest_plugins = [
    "tests.servers.certificates",
    "tests.servers.chromium",
    "tests.servers.dovecot",
    "tests.servers.graph",
    "tests.servers.oidc",
    "tests.servers.oauth_dovecot",
    "tests.servers.postgres",
    "tests.servers.rabbitmq",
    "tests.servers.redis",
    "tests.servers.webhooks",
]
