"""The fixtures of the servers; each lives in the module of its server."""

pytest_plugins = [
    "tests.servers.postgres",
]
