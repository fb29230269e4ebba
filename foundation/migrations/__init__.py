"""Alembic's scripts; run by foundation.migration, never by hand."""
