"""Steps from one form of the tables to the next; Database.upgrade runs them through Alembic."""
