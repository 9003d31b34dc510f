"""Bad input: one clear error in one schema, its exit code, and nothing changed on disk."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from latentlog.cli.errors import ExitCode
from latentlog.ledger.home import Home
from latentlog.ledger.keys import SigningKey
from tests.cli.conftest import Done, Run

KEYS = ["schema", "code", "message", "expected", "got", "next", "exit"]


def contents(folder: Path) -> dict[str, str]:
    """Every file below `folder`, but for what only opening an SQLite database touches."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
    }


def refused(done: Done, code: ExitCode) -> dict[str, object]:
    """The error of a command that failed as it should."""
    assert done.exit == code, done.out + done.err
    document = done.json
    assert [key for key in KEYS if key not in document] == []
    assert document["schema"] == "latentlog/error/v0"
    assert document["exit"] == code
    assert "Traceback" not in done.err
    return document


# Pictures.


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of some kind."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that nobody has memory for."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"")
    body = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


RGB = Image.effect_noise((32, 32), 60).convert("RGB")
PICTURES: dict[str, bytes] = {
    "empty": b"",
    "text": b"this is no picture",
    "truncated_png": encoded(RGB, "PNG")[:-200],
    "truncated_jpeg": encoded(RGB, "JPEG")[:-200],
    "fifty_thousand_square": png_of_size(50_000, 50_000),
    "animated_gif": encoded(
        RGB, "GIF", save_all=True, append_images=[RGB.transpose(Image.Transpose.ROTATE_90)]
    ),
    "animated_png": encoded(
        RGB, "PNG", save_all=True, append_images=[RGB.transpose(Image.Transpose.ROTATE_90)]
    ),
    "cmyk": encoded(RGB.convert("CMYK"), "JPEG"),
    "sixteen_bit": encoded(Image.new("I;16", (32, 32), 40_000), "PNG"),
    "alpha": encoded(Image.new("RGBA", (32, 32), (9, 9, 9, 128)), "PNG"),
    "tiff": encoded(RGB, "TIFF"),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", PICTURES)
def test_unreadable_picture(name: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "medium").write_bytes(PICTURES[name])
    before = contents(tmp_path)
    done = run("examine", "medium", "--model", "faces", "--out", "case.zip", "--json")
    refused(done, ExitCode.INPUT)
    assert contents(tmp_path) == before


# Names, and what stands in the way.


@pytest.fixture
def medium(tmp_path: Path) -> str:
    """A picture that can be read."""
    (tmp_path / "medium.png").write_bytes(encoded(RGB, "PNG"))
    return "medium.png"


@pytest.mark.usefixtures("home")
def test_unknown_model_names_those_there_are(run: Run, medium: str, tmp_path: Path) -> None:
    before = contents(tmp_path)
    for words in (["examine", medium, "--out", "c.zip", "--model"], ["epoch", "open"]):
        error = refused(run(*words, "nobody", "--json"), ExitCode.USAGE)
        assert error["expected"] == "faces"
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["--model", "faces", "--all-models"],
        ["--model", "faces", "--channels", "smell"],
        ["--model", "faces", "--seed", "not hex"],
        ["--model", "faces", "--seen-at", "yesterday"],
        ["--model", "faces", "--controls", "-1"],
    ],
    ids=" ".join,
)
def test_contradictory_request(extra: list[str], run: Run, medium: str, tmp_path: Path) -> None:
    before = contents(tmp_path)
    done = run("examine", medium, "--out", "case.zip", *extra, "--json")
    refused(done, ExitCode.USAGE)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("home")
def test_existing_bundle_is_not_overwritten(run: Run, medium: str, tmp_path: Path) -> None:
    (tmp_path / "case.zip").write_bytes(b"mine")
    done = run("examine", medium, "--model", "faces", "--out", "case.zip", "--json")
    assert refused(done, ExitCode.USAGE)["code"] == "output_exists"
    assert (tmp_path / "case.zip").read_bytes() == b"mine"


# Databases.


def test_never_initialised(run: Run, tmp_path: Path, medium: str) -> None:
    before = contents(tmp_path)
    for words in (["status"], ["audit"], ["examine", medium, "--all-models", "--out", "c.zip"]):
        error = refused(run(*words, "--json"), ExitCode.ENVIRONMENT)
        assert (error["code"], error["next"]) == ("home_missing", "latentlog init")
    assert contents(tmp_path) == before


def drop(home: Home) -> None:
    (home.path / "ledger.sqlite").unlink()


def empty(home: Home) -> None:
    (home.path / "ledger.sqlite").write_bytes(b"")


def scribble(home: Home) -> None:
    (home.path / "ledger.sqlite").write_bytes(b"not a database at all, but long enough" * 200)


def age(revision: str) -> Callable[[Home], None]:
    """Make the database one of another release."""

    def change(home: Home) -> None:
        with sqlite3.connect(home.path / "ledger.sqlite") as database:
            database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        database.close()

    return change


@pytest.mark.parametrize(
    ("change", "code", "exit_code"),
    [
        (drop, "database_missing", ExitCode.ENVIRONMENT),
        (empty, "database_missing", ExitCode.ENVIRONMENT),
        (scribble, "storage_unavailable", ExitCode.ENVIRONMENT),
        (age("9999"), "database_too_new", ExitCode.INPUT),
    ],
    ids=["missing", "empty", "scribbled", "newer"],
)
def test_unusable_database(
    change: Callable[[Home], None],
    code: str,
    exit_code: ExitCode,
    run: Run,
    home: Home,
    tmp_path: Path,
) -> None:
    change(home)
    before = contents(tmp_path)
    for words in (["status"], ["audit"], ["checkpoint"], ["draw", "faces", "-n", "1"]):
        assert refused(run(*words, "--json"), exit_code)["code"] == code
    assert contents(tmp_path) == before


# Bundles.


@pytest.mark.parametrize("kind", ["empty", "noise", "text", "zip of something else"])
def test_not_our_bundle(kind: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "case.zip"
    path.write_bytes(
        {"empty": b"", "noise": bytes(range(256)) * 9, "text": b"hello"}.get(kind, b"")
    )
    if kind == "zip of something else":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("holiday.txt", "sunny")
    before = contents(tmp_path)
    assert refused(run("verify", "case.zip", "--json"), ExitCode.INPUT)["code"] == "not_our_bundle"
    refused(run("report", "case.zip", "-o", "r.pdf", "--json"), ExitCode.INPUT)
    assert contents(tmp_path) == before
    assert refused(run("verify", "absent.zip", "--json"), ExitCode.INPUT)


# Keys.


def replace_key(home: Home, name: str) -> None:
    """Put another key where a key was."""
    path = home.keys / name
    path.unlink()
    if name == "master.key":
        path.write_bytes(bytes(32))
        path.chmod(0o600)
    else:
        SigningKey.generate().save(path)


def test_wrong_log_key(run: Run, home: Home, tmp_path: Path) -> None:
    replace_key(home, "log.key")
    before = contents(tmp_path)
    refused(run("checkpoint", "--json"), ExitCode.INPUT)
    refused(run("epoch", "open", "faces", "--json"), ExitCode.INPUT)
    assert contents(tmp_path) == before


def test_wrong_recorder_key(run: Run, home: Home, tmp_path: Path) -> None:
    replace_key(home, "recorders/local.key")
    before = contents(tmp_path)
    assert run("draw", "faces", "-n", "1", "--json").json["code"] == "recorder_retired"
    assert contents(tmp_path) == before


def test_wrong_master_key_is_said_by_the_audit(run: Run, home: Home) -> None:
    replace_key(home, "master.key")
    assert "latents are not derived again" in run("audit").err


def test_exposed_key(run: Run, home: Home, tmp_path: Path) -> None:
    (home.keys / "log.key").chmod(0o644)
    before = contents(tmp_path)
    error = refused(run("checkpoint", "--json"), ExitCode.ENVIRONMENT)
    assert error["code"] == "key_file_exposed"
    assert contents(tmp_path) == before


# Models.


def archive(path: Path, members: dict[str, bytes]) -> None:
    """Write a `.pt2`-like zip."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(f"model/{name}", content)


HOSTILE = {
    "pickled_weights": {"data/weights/model.pt": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR."},
    "compiled_code": {"data/aotinductor/model/x.so": b"\x7fELF"},
    "script_object": {"data/constants/custom_obj_0": b"\x80\x04."},
    "not_a_model": {"hello": b"world"},
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive(name: str, run: Run, tmp_path: Path) -> None:
    plain = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
    archive(tmp_path / "m.pt2", {**plain, **HOSTILE[name]})
    before = contents(tmp_path)
    done = run("model", "add", "m", "--generator", "m.pt2", "--latent-dim", "8", "--json")
    refused(done, ExitCode.INPUT)
    assert contents(tmp_path) == before
    assert not (tmp_path / "pwned").exists()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--generator", "m.pt2"],
        ["--generator", "m.pt2", "--latent-dim", "8", "--latent-shape", "8"],
        ["--generator", "m.pt2", "--latent-shape", "1,x"],
        ["--generator", "m.pt2", "--latent-dim", "8", "--range", "1"],
        ["--generator", "m.pt2", "--latent-dim", "8", "--factory", "a:b"],
        ["--factory", "a:b", "--latent-dim", "8"],
        ["--generator", "m.pt2", "--latent-dim", "8", "--prior", "cauchy"],
    ],
    ids=" ".join,
)
def test_contradictory_model(words: list[str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"")
    before = contents(tmp_path)
    refused(run("model", "add", "m", *words, "--json"), ExitCode.USAGE)
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("home")
def test_factory_runs_only_when_trusted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    words = ["--factory", "net:build", "--weights", "w.safetensors", "--latent-dim", "8"]
    done = run("model", "add", "m", *words, "--json")
    assert done.json["code"] == "untrusted_code"
    assert "--trust-code" in done.json["next"]


# A full disk: no file may grow past a limit, which is what the kernel says when none is left.


def with_limit(size: int, *arguments: str) -> Done:
    """Run a command whose files may not grow past `size` bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = subprocess.run(
        [sys.executable, "-m", "latentlog.cli", *arguments],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.usefixtures("run")
def test_full_disk_leaves_no_half_home(tmp_path: Path) -> None:
    refused(with_limit(8192, "init", "--json"), ExitCode.ENVIRONMENT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("home")
def test_full_disk_leaves_a_log_that_audits_clean(run: Run, medium: str, tmp_path: Path) -> None:
    drawn = run("draw", "faces", "-n", "100").out.splitlines()
    lines = [json.dumps({"draw": json.loads(d)["draw"], "output": medium}) for d in drawn]
    (tmp_path / "made.jsonl").write_text("\n".join(lines))
    # Enough for SQLite's shared memory, too little for the write-ahead log of this batch.
    refused(with_limit(33 * 1024, "record", "made.jsonl", "--json"), ExitCode.ENVIRONMENT)
    assert run("status", "--json").json["epochs"][0]["generated"] == 0
    assert run("audit", "--json").json["clean"]
    assert run("record", "made.jsonl").exit == 0
    assert run("status", "--json").json["epochs"][0]["generated"] == 100
    assert run("audit", "--json").json["clean"]


@pytest.mark.usefixtures("home")
def test_full_disk_leaves_no_half_file(run: Run, tmp_path: Path) -> None:
    run("checkpoint")
    before = set(contents(tmp_path))
    done = with_limit(64, "prove", "0", "--out", "0.proof", "--json")
    refused(done, ExitCode.ENVIRONMENT)
    assert set(contents(tmp_path)) == before


def test_error_in_json_is_one_line(run: Run) -> None:
    assert json.loads(run("status", "--json").out)["exit"] == ExitCode.ENVIRONMENT
