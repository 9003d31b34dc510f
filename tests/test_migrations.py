"""Migrations: what they make is what the code expects, on both databases, and only forward."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from latentlog.ledger.store.engine import open_engine, parse_url
from latentlog.ledger.store.schema import create_database, current_revision
from latentlog.ledger.store.tables import REVISIONS, metadata
from tests.databases import postgres_url, sqlite_url

ROOT = Path(__file__).parents[1]


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else postgres_url()
    create_database(url)
    made = open_engine(parse_url(url))
    yield made
    made.dispose()


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(files("latentlog.migrations")))
    return ScriptDirectory.from_config(config)


def test_upgrading_from_empty_leaves_nothing_to_generate(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []


def test_constraints_and_indexes_bear_the_names_the_code_gives_them(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    for table in metadata.sorted_tables:
        checks = {str(c["name"]) for c in inspector.get_check_constraints(table.name)}
        named = {str(c.name) for c in table.constraints if isinstance(c, sa.CheckConstraint)}
        assert checks == named
        indexes = {i["name"] for i in inspector.get_indexes(table.name)}
        assert indexes == {index.name for index in table.indexes}


def test_the_code_knows_every_revision() -> None:
    revisions = [script.revision for script in scripts().walk_revisions()]
    assert tuple(reversed(revisions)) == REVISIONS
    assert scripts().get_heads() == [REVISIONS[-1]]


def test_there_is_no_way_back() -> None:
    for script in scripts().walk_revisions():
        with pytest.raises(NotImplementedError):
            script.module.downgrade()


def test_the_alembic_command_works_in_the_checkout(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    create_database(url)
    run = subprocess.run(
        [sys.executable, "-m", "alembic", "-x", f"db={url}", "current"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "LATENTLOG_DB"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "0001 (head)" in run.stdout
    assert current_revision(url) == "0001"
