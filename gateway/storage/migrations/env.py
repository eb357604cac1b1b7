"""Alembic's entry: steps are run on the connection, inside the transaction, of the caller."""

from alembic import context

from gateway.storage.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,  # SQLite's too, since Database begins its transactions by itself
    render_as_batch=True,  # SQLite alters a column by copying its table
)
with context.begin_transaction():
    context.run_migrations()
