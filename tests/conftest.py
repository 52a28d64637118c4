"""The servers of the session; a directory's own fixtures are in its own conftest."""

pytest_plugins = ["tests.servers.rabbitmq", "tests.servers.redis"]
