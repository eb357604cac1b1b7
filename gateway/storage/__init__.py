"""What the gateway keeps: tables, the database they lie in (SQLite or PostgreSQL), migrations."""

from gateway.storage.database import Database

__all__ = ["Database"]
