"""The tables of a log, and of the vault. What they mean is in `ledger.storage`; who may change
what is enforced by triggers, which `migrations/versions/` creates.

Hashes and bodies are bytes, exactly as hashed; the columns beside a body repeat what it says, so
that it can be found, and `audit` compares them.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    text,
)

REVISIONS: Final = ("0001",)
"""Every schema a release has written, oldest first; the last is the one this code works on."""

RARE_KINDS: Final = text("kind NOT IN ('generation', 'seal')")
"""All kinds but the two that make up nearly all rows: these are found by an index of their own."""

# SQLite stores a row in the order of its INTEGER primary key, and only of that spelling.
_Big: Final = BigInteger().with_variant(Integer, "sqlite")

_NAMES: Final = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

metadata: Final = MetaData(naming_convention=_NAMES)

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", String(1024), nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("index", _Big, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("epoch", _Big),
    Column("counter", _Big),
    Column("length", _Big),
    Column("leaf_hash", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    CheckConstraint('"index" >= 0', name="index"),
    CheckConstraint("length(leaf_hash) = 32", name="leaf_hash"),
    CheckConstraint("length(body) BETWEEN 1 AND 65535", name="body"),
    CheckConstraint("(counter IS NULL) = (length IS NULL)", name="counter"),
    # One generation, one reservation and one abandonment for a counter; also how they are found.
    Index(
        "uq_entries_epoch_kind_counter",
        "epoch",
        "kind",
        "counter",
        unique=True,
        sqlite_where=text("counter IS NOT NULL"),
        postgresql_where=text("counter IS NOT NULL"),
    ),
    Index(
        "ix_entries_kind_index",
        "kind",
        "index",
        sqlite_where=RARE_KINDS,
        postgresql_where=RARE_KINDS,
    ),
    Index(
        "uq_entries_epoch_kind",
        "epoch",
        "kind",
        unique=True,
        sqlite_where=text("kind IN ('epoch-open', 'epoch-close')"),
        postgresql_where=text("kind IN ('epoch-open', 'epoch-close')"),
    ),
)

tiles = Table(
    "tiles",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("index", _Big, primary_key=True, autoincrement=False),
    # Before the hashes, so that reading a level's roots does not read its 8 KiB rows.
    Column("root", LargeBinary, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    CheckConstraint("length(root) = 32 AND length(hashes) = 8192", name="size"),
)

head = Table(
    "head",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("size", _Big, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
    Column("published", _Big),
    CheckConstraint("id = 1", name="single"),
    CheckConstraint("published <= size", name="published"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", _Big, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    CheckConstraint("length(digest) = 32", name="digest"),
)

openings = Table(
    "openings",
    metadata,
    Column("index", _Big, ForeignKey("entries.index"), primary_key=True, autoincrement=False),
    Column("blob", LargeBinary, nullable=False),
)

vault_metadata: Final = MetaData(naming_convention=_NAMES)

record_keys = Table(
    "record_keys",
    vault_metadata,
    Column("epoch", _Big, primary_key=True, autoincrement=False),
    Column("counter", _Big, primary_key=True, autoincrement=False),
    # Names the blob it opens: sealing a counter twice must never overwrite the first key.
    Column("blob_id", LargeBinary, primary_key=True),
    Column("record_key", LargeBinary, nullable=False),
    CheckConstraint("length(blob_id) = 16 AND length(record_key) = 32", name="size"),
    sqlite_with_rowid=False,
)
