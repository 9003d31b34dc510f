"""The home: the folder with a developer's keys, models, databases and configuration.

    latentlog.toml                    origin, vkey, database, recorder
    keys/log.key  master.key  examiner.key  recorders/local.key  epochs/0.key
    models/<digest>.pt2               ledger.sqlite   vault.sqlite   published.note
    sessions/local.json               queue/local/000001.batch

Folders are 0700, files 0600. A home appears whole or not at all: it is made beside its final name
and moved there. `keys/master.key` derives every latent ever issued; a recorder's machine needs
only `recorders/`, `epochs/` and the configuration.
"""

import json
import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from latentlog.ledger.codec import require_name
from latentlog.ledger.continuity import PUBLISHED_NOTE, Continuity
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import RecorderEntry
from latentlog.ledger.errors import (
    DatabaseMissing,
    HomeExists,
    HomeMissing,
    KeyFileExists,
    MalformedHome,
    StorageUnavailable,
)
from latentlog.ledger.keys import Random, SigningKey, load_secret, save_secret
from latentlog.ledger.keystream import RecorderKeys
from latentlog.ledger.log import Clock, Log, utc_now
from latentlog.ledger.note import NoteSigner, NoteVerifier
from latentlog.ledger.store.sql import SqlStore
from latentlog.ledger.store.vault import VaultStore

CONFIGURATION: Final = "latentlog.toml"
DEFAULT_RECORDER: Final = "local"
_DEFAULT_DATABASE: Final = "sqlite:///ledger.sqlite"
_VAULT: Final = "sqlite:///vault.sqlite"
_KEYS: Final = frozenset({"origin", "vkey", "database", "recorder"})


@dataclass(frozen=True, slots=True)
class Home:
    """An opened home: where its files are, and what its configuration says."""

    path: Path
    origin: str
    vkey: str
    database: str = field(repr=False)  # may hold a password
    recorder: str = DEFAULT_RECORDER

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        origin: str,
        database: str | None = None,
        random: Random = os.urandom,
        clock: Clock = utc_now,
    ) -> "Home":
        """Make keys, both databases, the first recorder and the first checkpoint.

        Without `database` the log is an SQLite file in the home. Raises `HomeExists`.
        """
        path = Path(path).absolute()
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise HomeExists(
                f"{path} exists and is not empty; nothing was changed",
                next_step="latentlog status, or name another folder with --home",
            )
        making = path.with_name(f".{path.name}.{random(4).hex()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            making.mkdir(mode=0o700)
            _furnish(making, origin, database or _DEFAULT_DATABASE, random, clock)
            # Renaming onto an empty folder replaces it: whoever looks finds nothing or everything.
            making.rename(path)
        except OSError as error:
            raise StorageUnavailable(f"cannot create a home at {path}: {error.strerror}") from None
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path | None = None, *, database: str | None = None) -> "Home":
        """Open an existing home, by default where `LATENTLOG_HOME` and `LATENTLOG_DB` say.

        `database` takes the place of the configured one. Raises `HomeMissing`, `MalformedHome`.
        """
        if path is None:
            path = default_path(os.environ)
            database = database or os.environ.get("LATENTLOG_DB")
        path = Path(path).absolute()
        try:
            configuration = tomllib.loads((path / CONFIGURATION).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise HomeMissing(
                f"there is no latentlog home at {path}", next_step="latentlog init"
            ) from None
        except (ValueError, OSError) as error:
            raise MalformedHome(f"{path / CONFIGURATION} cannot be read: {error}") from None
        if configuration.keys() - _KEYS or _KEYS - configuration.keys():
            raise MalformedHome(
                f"{path / CONFIGURATION} has other settings",
                expected=", ".join(sorted(_KEYS)),
                got=", ".join(sorted(configuration)),
            )
        if not all(isinstance(value, str) for value in configuration.values()):
            raise MalformedHome(f"every setting in {path / CONFIGURATION} is a text")
        settings = {**configuration, **({"database": database} if database else {})}
        return cls(path, **settings)

    # Keys.

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    def log_key(self) -> SigningKey:
        """Load the log's signing key, which must be the one the configuration names."""
        key = SigningKey.load(self.keys / "log.key")
        if key.public != self.verifier.key:
            raise MalformedHome(
                "keys/log.key is not the key that latentlog.toml names",
                expected=self.vkey,
                got=NoteVerifier(self.origin, key.public).vkey,
            )
        return key

    def master_key(self) -> bytes:
        """Load the key from which every epoch key follows."""
        return load_secret(self.keys / "master.key", size=32)

    def examiner_key(self) -> SigningKey:
        """Load the key that signs examinations made here."""
        return SigningKey.load(self.keys / "examiner.key")

    def recorder_key_path(self, name: str) -> Path:
        return self.keys / "recorders" / f"{require_name(name)}.key"

    def recorder_key(self, name: str) -> SigningKey:
        """Load a recorder's signing key."""
        return SigningKey.load(self.recorder_key_path(name))

    def epoch_key_path(self, epoch: int) -> Path:
        return self.keys / "epochs" / f"{epoch}.key"

    def recorder_keys(self, epoch: int) -> RecorderKeys:
        """Load what recorders need of an epoch's key."""
        return RecorderKeys.decode(load_secret(self.epoch_key_path(epoch)))

    def keep_recorder_keys(self, epoch: int, keys: RecorderKeys) -> None:
        """Write an epoch's recorder keys, replacing those of an epoch that was never logged."""
        path = self.epoch_key_path(epoch)
        path.unlink(missing_ok=True)
        save_secret(path, keys.encode())

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier.parse(self.vkey)

    # Everything else.

    @property
    def continuity(self) -> Continuity:
        """The newest checkpoint that this home knows of, whatever the database says."""
        return Continuity(self.path / PUBLISHED_NOTE, self.verifier)

    @property
    def vault_url(self) -> str:
        return _absolute(_VAULT, self.path)

    @property
    def database_url(self) -> str:
        return _absolute(self.database, self.path)

    def model_path(self, digest: Digest, suffix: str) -> Path:
        """Where a model's file is kept: `.pt2`, or `.safetensors` and `.json` of a factory."""
        return self.path / "models" / f"{digest.hex()}{suffix}"

    def session_path(self, recorder: str) -> Path:
        return self.path / "sessions" / f"{require_name(recorder)}.json"

    def queue_path(self, recorder: str) -> Path:
        return self.path / "queue" / require_name(recorder)


def default_path(environment: Mapping[str, str]) -> Path:
    """Return `LATENTLOG_HOME`, or `latentlog` in the XDG data folder."""
    if home := environment.get("LATENTLOG_HOME"):
        return Path(home).expanduser().absolute()
    data = environment.get("XDG_DATA_HOME", "")
    base = Path(data) if os.path.isabs(data) else Path.home() / ".local/share"
    return base / "latentlog"


def open_log(home: Home, *, clock: Clock = utc_now) -> Log:
    """Open the home's log, with its signing key where that is on this machine."""
    try:
        store = SqlStore.open(home.database_url)
    except DatabaseMissing as error:
        if (home.path / PUBLISHED_NOTE).exists():
            error.next_step = "latentlog restore BACKUP --checkpoint NEWEST.note"
        raise
    try:
        signer = home.log_key() if (home.keys / "log.key").exists() else None
        return Log(
            store,
            origin=home.origin,
            signer=signer,
            public=home.verifier.key,
            clock=clock,
            continuity=home.continuity,
        )
    except BaseException:
        store.close()
        raise


def open_vault(home: Home) -> VaultStore:
    """Open the home's store of record keys."""
    return VaultStore.open(home.vault_url)


def make_recorder_key(home: Home, name: str, random: Random = os.urandom) -> SigningKey:
    """Return a recorder's key, made now if it has none; its registration is another step."""
    path = home.recorder_key_path(name)
    try:
        SigningKey.generate(random).save(path)
    except KeyFileExists:
        pass
    return SigningKey.load(path)


def _furnish(path: Path, origin: str, database: str, random: Random, clock: Clock) -> None:
    for folder in ("keys", "keys/recorders", "keys/epochs", "models", "sessions", "queue"):
        (path / folder).mkdir(mode=0o700)
    log_key = SigningKey.generate(random)
    log_key.save(path / "keys/log.key")
    SigningKey.generate(random).save(path / "keys/examiner.key")
    recorder_key = SigningKey.generate(random)
    recorder_key.save(path / "keys/recorders" / f"{DEFAULT_RECORDER}.key")
    save_secret(path / "keys/master.key", random(32))
    vkey = NoteSigner(origin, log_key).verifier.vkey
    settings = {"origin": origin, "vkey": vkey, "database": database, "recorder": DEFAULT_RECORDER}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    save_secret(path / CONFIGURATION, text.encode())
    VaultStore.create(_absolute(_VAULT, path)).close()
    store = SqlStore.create(_absolute(database, path))
    try:
        continuity = Continuity(path / PUBLISHED_NOTE, NoteVerifier.parse(vkey))
        log = Log(store, origin=origin, signer=log_key, clock=clock, continuity=continuity)
        log.append([RecorderEntry(name=DEFAULT_RECORDER, key=recorder_key.public, state="active")])
        log.publish()
    finally:
        store.close()


def _absolute(url: str, home: Path) -> str:
    """Read a relative SQLite path as one in the home, so that a home can be moved."""
    relative = "sqlite:///"
    if url.startswith(relative) and not url.startswith(relative + "/"):
        return f"{relative}{home}/{url.removeprefix(relative)}"
    return url
