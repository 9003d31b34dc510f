"""The home: whole or absent, readable by its owner only, and found where the environment says."""

import stat
from contextlib import closing
from pathlib import Path

import pytest

from latentlog.ledger.errors import (
    AlreadyRegistered,
    DatabaseMissing,
    HomeExists,
    HomeMissing,
    KeyFileExists,
    KeyFileExposed,
    MalformedEntry,
    MalformedHome,
    NoSuchRecorder,
    StorageUnavailable,
)
from latentlog.ledger.home import Home, default_path, make_recorder_key, open_log, open_vault
from latentlog.ledger.keys import SigningKey
from latentlog.ledger.keystream import RecorderKeys
from latentlog.ledger.log import Log
from latentlog.ledger.registry import add_recorder, recorders, retire_recorder
from tests.builders import ORIGIN, repeating
from tests.databases import postgres_url


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", origin=ORIGIN)


def test_a_new_home_holds_a_log_with_a_checkpoint_and_a_recorder(home: Home) -> None:
    with closing(open_log(home)) as log:
        assert log.vkey == home.vkey
        assert log.checkpoint().checkpoint.size == log.size == 2
        assert recorders(log)["local"].key == home.recorder_key("local").public
    assert len(home.master_key()) == 32
    assert home.examiner_key().public != home.log_key().public
    with closing(open_vault(home)) as vault:
        assert vault.get([]) == []


def test_nobody_else_can_read_a_home(home: Home) -> None:
    for path in [home.path, *home.path.rglob("*")]:
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_an_exposed_key_is_refused(home: Home) -> None:
    (home.keys / "master.key").chmod(0o640)
    with pytest.raises(KeyFileExposed):
        home.master_key()


def test_a_home_is_never_made_over_something(home: Home, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}
    with pytest.raises(HomeExists):
        Home.create(home.path, origin=ORIGIN)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(HomeExists):
        Home.create(tmp_path / "file", origin=ORIGIN)
    assert before == {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}


def test_an_empty_folder_becomes_a_home(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    assert Home.create(tmp_path / "home", origin=ORIGIN).log_key()


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing):
        Home.create(tmp_path / "home", origin=ORIGIN, database="mysql://nowhere")
    with pytest.raises(StorageUnavailable):
        Home.create(tmp_path / "home", origin=ORIGIN, database="sqlite:////nowhere/x.sqlite")
    assert not list(tmp_path.iterdir())


def test_a_home_can_be_moved(home: Home, tmp_path: Path) -> None:
    home.path.rename(tmp_path / "elsewhere")
    with closing(open_log(Home.open(tmp_path / "elsewhere"))) as log:
        assert log.size == 2


def test_a_missing_home_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(HomeMissing) as caught:
        Home.open(tmp_path / "home")
    assert caught.value.next_step == "latentlog init"


@pytest.mark.parametrize(
    "text", ["not toml [", 'origin = "x"\n', "origin = 1\nvkey = 2\ndatabase = 3\nrecorder = 4\n"]
)
def test_a_configuration_that_is_not_ours_is_refused(home: Home, text: str) -> None:
    (home.path / "latentlog.toml").write_text(text)
    with pytest.raises(MalformedHome):
        Home.open(home.path)


def test_another_log_key_is_refused(home: Home) -> None:
    (home.keys / "log.key").unlink()
    SigningKey.generate().save(home.keys / "log.key")
    with pytest.raises(MalformedHome, match=r"log\.key"):
        open_log(Home.open(home.path))


def test_a_recorders_machine_needs_no_log_key(home: Home) -> None:
    (home.keys / "log.key").unlink()
    (home.keys / "master.key").unlink()
    with closing(open_log(home)) as log:
        assert log.checkpoint()


def test_the_database_can_be_given_from_outside(home: Home, tmp_path: Path) -> None:
    opened = Home.open(home.path, database=f"sqlite:///{tmp_path}/other.sqlite")
    with pytest.raises(DatabaseMissing):
        open_log(opened)


def test_a_home_on_postgres(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", origin=ORIGIN, database=postgres_url())
    with closing(open_log(home)) as log:
        assert log.checkpoint().checkpoint.size == 2


@pytest.mark.parametrize("name", ["../up", "UPPER", "", "a/b", "x" * 65])
def test_names_cannot_leave_the_home(home: Home, name: str) -> None:
    for path_of in (home.recorder_key_path, home.session_path, home.queue_path):
        with pytest.raises(MalformedEntry):
            path_of(name)


def test_epoch_keys_are_kept_for_recorders(home: Home) -> None:
    keys = RecorderKeys(b"a" * 32, b"b" * 32, b"c" * 32)
    home.keep_recorder_keys(3, RecorderKeys(b"x" * 32, b"y" * 32, b"z" * 32))
    home.keep_recorder_keys(3, keys)
    assert home.recorder_keys(3) == keys


def test_a_recorder_key_is_made_once(home: Home) -> None:
    key = make_recorder_key(home, "second", repeating("second"))
    assert make_recorder_key(home, "second").public == key.public
    with pytest.raises(KeyFileExists):
        key.save(home.recorder_key_path("second"))


def test_recorders_are_added_and_retired(home: Home) -> None:
    with closing(open_log(home)) as log:
        add_and_retire(home, log)


def add_and_retire(home: Home, log: Log) -> None:
    add_recorder(log, "second", make_recorder_key(home, "second").public)
    with pytest.raises(AlreadyRegistered):
        add_recorder(log, "second", SigningKey.generate().public)
    retire_recorder(log, "second")
    assert {name: entry.state for name, entry in recorders(log).items()} == {
        "local": "active",
        "second": "retired",
    }
    with pytest.raises(NoSuchRecorder):
        retire_recorder(log, "second")
    with pytest.raises(NoSuchRecorder):
        retire_recorder(log, "third")
    add_recorder(log, "second", SigningKey.generate().public)


def test_the_environment_says_where_the_home_is() -> None:
    assert default_path({"LATENTLOG_HOME": "/a", "XDG_DATA_HOME": "/b"}) == Path("/a")
    assert default_path({"XDG_DATA_HOME": "/b"}) == Path("/b/latentlog")
    fallback = Path.home() / ".local/share/latentlog"
    assert default_path({"XDG_DATA_HOME": "relative"}) == default_path({}) == fallback
