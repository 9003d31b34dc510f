"""Create the tables of a log and the triggers that keep them append-only."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")
EMPTY_FRONTIER = bytes(8)

# Rows of these tables are never changed or removed.
FIXED = ("meta", "entries", "tiles", "checkpoints", "documents", "openings")


def upgrade() -> None:
    create_entries()
    create_tree()
    create_attachments()
    if op.get_bind().dialect.name == "sqlite":
        guard_sqlite()
    else:
        guard_postgresql()


def create_entries() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.String(1024), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "entries",
        sa.Column("index", BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("epoch", BIG),
        sa.Column("counter", BIG),
        sa.Column("length", BIG),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("index", name=op.f("pk_entries")),
        sa.CheckConstraint('"index" >= 0', name=op.f("ck_entries_index")),
        sa.CheckConstraint("length(leaf_hash) = 32", name=op.f("ck_entries_leaf_hash")),
        sa.CheckConstraint("length(body) BETWEEN 1 AND 65535", name=op.f("ck_entries_body")),
        sa.CheckConstraint("(counter IS NULL) = (length IS NULL)", name=op.f("ck_entries_counter")),
    )
    create_partial_index(
        "uq_entries_epoch_kind_counter",
        ["epoch", "kind", "counter"],
        "counter IS NOT NULL",
        unique=True,
    )
    create_partial_index(
        "ix_entries_kind_index", ["kind", "index"], "kind NOT IN ('generation', 'seal')"
    )
    create_partial_index(
        "uq_entries_epoch_kind",
        ["epoch", "kind"],
        "kind IN ('epoch-open', 'epoch-close')",
        unique=True,
    )


def create_tree() -> None:
    op.create_table(
        "tiles",
        sa.Column("level", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("index", BIG, autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("hashes", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("level", "index", name=op.f("pk_tiles")),
        sa.CheckConstraint(
            "length(root) = 32 AND length(hashes) = 8192", name=op.f("ck_tiles_size")
        ),
    )
    head = op.create_table(
        "head",
        sa.Column("id", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
        sa.Column("published", BIG),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_head")),
        sa.CheckConstraint("id = 1", name=op.f("ck_head_single")),
        sa.CheckConstraint("published <= size", name=op.f("ck_head_published")),
    )
    op.bulk_insert(head, [{"id": 1, "size": 0, "frontier": EMPTY_FRONTIER, "published": None}])
    op.create_table(
        "checkpoints",
        sa.Column("size", BIG, autoincrement=False, nullable=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoints")),
    )


def create_attachments() -> None:
    op.create_table(
        "documents",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_documents")),
        sa.CheckConstraint("length(digest) = 32", name=op.f("ck_documents_digest")),
    )
    op.create_table(
        "openings",
        sa.Column("index", BIG, autoincrement=False, nullable=False),
        sa.Column("blob", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("index", name=op.f("pk_openings")),
        sa.ForeignKeyConstraint(
            ["index"], ["entries.index"], name=op.f("fk_openings_index_entries")
        ),
    )


def create_partial_index(
    name: str, columns: list[str], condition: str, *, unique: bool = False
) -> None:
    where = sa.text(condition)
    op.create_index(
        op.f(name), "entries", columns, unique=unique, sqlite_where=where, postgresql_where=where
    )


def guard_sqlite() -> None:
    for table in FIXED:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    # INSERT OR REPLACE removes the row in its way without firing delete triggers, unless the
    # connection set recursive_triggers; so what would be replaced is refused before.
    refuse_insert(
        "entries",
        'NEW."index" <> (SELECT coalesce(max("index") + 1, 0) FROM entries) OR EXISTS '
        "(SELECT 1 FROM entries WHERE counter IS NOT NULL AND epoch = NEW.epoch "
        "AND kind = NEW.kind AND counter = NEW.counter)",
    )
    refuse_insert("meta", "EXISTS (SELECT 1 FROM meta WHERE key = NEW.key)")
    refuse_insert("checkpoints", "NEW.size <= (SELECT max(size) FROM checkpoints)")
    refuse_insert("documents", "EXISTS (SELECT 1 FROM documents WHERE digest = NEW.digest)")
    refuse_insert("openings", 'EXISTS (SELECT 1 FROM openings WHERE "index" = NEW."index")')
    refuse_insert(
        "tiles",
        'EXISTS (SELECT 1 FROM tiles WHERE level = NEW.level AND "index" = NEW."index")',
    )
    refuse_insert("head", "EXISTS (SELECT 1 FROM head)")
    op.execute(
        "CREATE TRIGGER head_no_delete BEFORE DELETE ON head "
        "BEGIN SELECT RAISE(ABORT, 'the head row stays'); END"
    )
    op.execute(
        "CREATE TRIGGER head_only_grows BEFORE UPDATE ON head "
        "WHEN NEW.id <> OLD.id OR NEW.size < OLD.size "
        "OR coalesce(NEW.published, -1) < coalesce(OLD.published, -1) "
        "BEGIN SELECT RAISE(ABORT, 'the head row only moves forward'); END"
    )


def refuse_insert(table: str, condition: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {condition} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    )


def guard_postgresql() -> None:
    op.execute(
        """
        CREATE FUNCTION latentlog_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION latentlog_head_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.id <> OLD.id OR NEW.size < OLD.size
                OR coalesce(NEW.published, -1) < coalesce(OLD.published, -1) THEN
                RAISE EXCEPTION 'the head row only moves forward'
                    USING ERRCODE = 'restrict_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    for table in FIXED:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION latentlog_refuse()"
        )
    op.execute(
        "CREATE TRIGGER head_stays BEFORE DELETE OR TRUNCATE ON head "
        "FOR EACH STATEMENT EXECUTE FUNCTION latentlog_refuse()"
    )
    op.execute(
        "CREATE TRIGGER head_only_grows BEFORE UPDATE ON head "
        "FOR EACH ROW EXECUTE FUNCTION latentlog_head_only_grows()"
    )


def downgrade() -> None:
    raise NotImplementedError("migrations go forward only; restore a backup instead")
