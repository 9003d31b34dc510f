"""The Alembic migrations of a log's database: forward only, run by `latentlog db upgrade`."""
