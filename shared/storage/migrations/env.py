"""Alembic's entry: runs on the connection that `shared.storage.migrate` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"], version_table="posthouse_schema"
)
with context.begin_transaction():
    context.run_migrations()
