"""The commands of the ledger: set up, draw, record, prove, audit, erase."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from latentlog.cli.errors import ExitCode
from latentlog.ledger.home import Home
from latentlog.ledger.proof import verify_tlog_proof
from tests.cli.conftest import Run


def test_init_makes_a_home_once(run: Run, tmp_path: Path) -> None:
    made = run("init", "--origin", "example.com/faces", "--json").json
    assert made["schema"] == "latentlog/init/v0"
    assert made["origin"] == "example.com/faces"
    assert made["checkpoint"]["size"] == 2
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    again = run("init", "--json")
    assert (again.exit, again.json["code"]) == (ExitCode.USAGE, "home_exists")
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_flag_wins_over_environment_and_xdg_is_the_default(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("init", "--home", str(tmp_path / "other")).exit == 0
    assert (tmp_path / "other" / "latentlog.toml").exists()
    monkeypatch.delenv("LATENTLOG_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert run("init", "--json").json["home"] == str(tmp_path / "data" / "latentlog")


def test_db_flag_names_another_database(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    assert run("init", "--db", url, "--json").json["database"] == url
    assert (tmp_path / "elsewhere.sqlite").exists()
    missing = run("status", "--db", f"sqlite:///{tmp_path / 'none.sqlite'}", "--json")
    assert (missing.exit, missing.json["code"]) == (ExitCode.ENVIRONMENT, "database_missing")
    assert not (tmp_path / "none.sqlite").exists()


def test_no_command_shows_a_database_password(run: Run) -> None:
    done = run("init", "--db", "postgresql://user:hunter2@127.0.0.1:1/none", "--json")
    assert done.exit == ExitCode.ENVIRONMENT
    assert "hunter2" not in done.out + done.err


@pytest.mark.usefixtures("home")
class TestOnAHome:
    def test_keys_print_public_halves_that_openssl_agrees_with(self, run: Run, home: Home) -> None:
        keys = {key["name"]: key for key in run("keys", "list", "--json").json["keys"]}
        assert set(keys) == {"log", "examiner", "recorders/local"}
        der = subprocess.run(
            ["openssl", "pkey", "-in", home.keys / "examiner.key", "-pubout", "-outform", "DER"],
            capture_output=True,
            check=True,
        ).stdout
        digest = subprocess.run(
            ["openssl", "dgst", "-sha256", "-r"], input=der, capture_output=True, check=True
        ).stdout
        assert digest.decode().split()[0] == keys["examiner"]["fingerprint"]
        assert run("keys", "show", "log").out.splitlines()[0] == home.vkey
        assert run("keys", "show", "nobody", "--json").json["expected"] == ", ".join(keys)

    def test_keys_never_print_a_secret(self, run: Run, home: Home) -> None:
        said = "".join(run("keys", *words).out for words in (["list"], ["show", "log"], ["trust"]))
        assert home.master_key().hex() not in said
        assert "PRIVATE" not in said

    def test_trust_is_a_file_that_verify_reads(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "trust.toml").write_text(run("keys", "trust").out)
        (tmp_path / "no.zip").write_bytes(b"no bundle")
        done = run("verify", "no.zip", "--trust", "trust.toml", "--json")
        assert (done.exit, done.json["code"]) == (ExitCode.INPUT, "not_our_bundle")

    def test_recorders_come_and_go(self, run: Run) -> None:
        assert run("recorder", "add", "worker-1").exit == 0
        listed = run("recorder", "list", "--json").json["recorders"]
        assert {r["name"]: r["state"] for r in listed}["worker-1"] == "active"
        assert run("recorder", "add", "worker-1", "--json").json["code"] == "already_registered"
        assert run("recorder", "retire", "worker-1").exit == 0
        refused = run("draw", "faces", "-n", "1", "--recorder", "worker-1", "--json")
        assert refused.json["code"] == "recorder_retired"

    def test_what_is_drawn_is_recorded_by_another_process(self, run: Run, tmp_path: Path) -> None:
        lines = [json.loads(line) for line in run("draw", "faces", "-n", "3").out.splitlines()]
        assert [line["draw"] for line in lines] == ["0/0", "0/1", "0/2"]
        assert all(len(line["latent"]) == 8 and line["shape"] == [8] for line in lines)
        picture(tmp_path / "a.png")
        records = [
            {"draw": "0/2", "output": "a.png", "conditioning": {"prompt": "a face"}},
            {"draw": "0/0", "output": "a.png", "sampler": {"scale": 7.5}},
        ]
        stdin = "".join(json.dumps(record) + "\n" for record in records).encode()
        sealed = run("record", "--json", stdin=stdin).json["sealed"]
        assert [s["draw"] for s in sealed] == ["0/0", "0/2"]
        entry = run("show", str(sealed[1]["entry"]), "--json").json["entry"]
        assert entry["counter"] == 2
        assert set(entry["commitments"]) >= {"latent", "conditioning", "output_file"}
        [epoch] = run("status", "--json").json["epochs"]
        assert (epoch["generated"], epoch["pending"]) == (2, 1)
        assert run("audit", "--json").json["clean"]

    def test_a_seed_is_recorded_with_the_latent_it_gives(self, run: Run, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        seed = {"rng": "torch.cpu", "seed": "42", "shape": [1, 16]}
        line = json.dumps({"seed": seed, "output": "a.png"}).encode()
        sealed = run("record", "--model", "faces", "--json", stdin=line).json["sealed"]
        entry = run("show", str(sealed[0]["entry"]), "--json").json["entry"]
        assert entry["source"] == "seed"
        assert run("audit", "--json").json["clean"]
        assert run("record", "--json", stdin=line).exit == ExitCode.USAGE

    @pytest.mark.parametrize(
        "line",
        [
            b"not json",
            b"[]",
            b'{"output": "a.png"}',
            b'{"draw": "0/0", "seed": {}, "output": "a.png"}',
            b'{"draw": "zero", "output": "a.png"}',
            b'{"draw": "0/0"}',
            b'{"draw": "0/0", "output": "absent.png"}',
            b'{"draw": "0/0", "output": "a.png", "typo": 1}',
            b'{"draw": "0/0", "output": "a.png", "sampler": "ddim"}',
            b'{"draw": "0/0", "output": "a.png"}\n{"draw": "0/0", "output": "a.png"}',
            b'{"draw": "7/0", "output": "a.png"}',
            b'{"draw": "0/99", "output": "a.png"}',
            b'{"seed": {"rng": "cuda", "seed": "1", "shape": [8]}, "output": "a.png"}',
            b"[" * 100_000,
        ],
    )
    def test_nothing_is_sealed_unless_every_line_is_good(
        self, run: Run, tmp_path: Path, line: bytes
    ) -> None:
        picture(tmp_path / "a.png")
        run("draw", "faces", "-n", "2")
        before = run("status", "--json").json["epochs"]
        good = b'{"draw": "0/1", "output": "a.png"}\n'
        done = run("record", "--model", "faces", "--json", stdin=good + line)
        assert done.exit in {ExitCode.INPUT, ExitCode.USAGE}, done.out
        assert done.json["schema"] == "latentlog/error/v0"
        assert run("status", "--json").json["epochs"][0]["generated"] == before[0]["generated"]

    def test_checkpoint_prints_the_note_byte_for_byte(self, run: Run) -> None:
        run("draw", "faces", "-n", "1")
        assert run("status", "--max-age", "1h").exit == 0
        note = run("checkpoint").out
        assert run("checkpoint").out == note
        assert run("checkpoint", "--json").json["note"] == note

    def test_proof_verifies_with_the_log_key_alone(self, run: Run, home: Home) -> None:
        run("checkpoint")
        proof = run("prove", "2").out.encode()
        from latentlog.ledger.digest import Digest

        leaf = Digest.fromhex(run("show", "2", "--json").json["leaf_hash"])
        assert verify_tlog_proof(proof, leaf, home.verifier, home.origin).index == 2
        assert run("prove", "2", "--out", "2.proof").exit == 0
        assert Path("2.proof").read_bytes() == proof
        assert run("prove", "2", "--out", "2.proof", "--json").json["code"] == "output_exists"

    def test_status_is_stale_when_entries_wait(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert run("status", "--max-age", "1s", "--json").json["stale"] is False
        run("draw", "faces", "-n", "1")
        monkeypatch.setattr("latentlog.cli.commands.log._age", lambda log, covered: 90.0)
        assert run("status", "--max-age", "2m").exit == 0
        stale = run("status", "--max-age", "1m", "--json")
        assert (stale.exit, stale.json["stale"]) == (ExitCode.INTEGRITY, True)
        assert run("status", "--max-age", "soon").exit == ExitCode.USAGE

    def test_audit_names_the_row_that_does_not_hold(self, run: Run, home: Home) -> None:
        import sqlite3

        run("draw", "faces", "-n", "1")
        with sqlite3.connect(home.path / "ledger.sqlite") as database:
            for (trigger,) in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                database.execute(f"DROP TRIGGER {trigger}")
            changed = "CAST(replace(CAST(body AS TEXT), 'faces', 'farce') AS BLOB)"
            database.execute(f"UPDATE entries SET body = {changed}")
        database.close()
        done = run("audit", "--json")
        assert done.exit == ExitCode.INTEGRITY
        assert done.json["problems"][0]["index"] is not None
        assert "entry" in run("audit").out

    def test_erase_logs_then_destroys(self, run: Run, tmp_path: Path) -> None:
        picture(tmp_path / "a.png")
        run("draw", "faces", "-n", "1")
        line = b'{"draw": "0/0", "output": "a.png"}'
        index = run("record", "--json", stdin=line).json["sealed"][0]["entry"]
        erased = run("erase", str(index), "--ground", "on request", "--json").json
        assert erased["destroyed"] is True
        assert run("erase", str(index), "--ground", "again", "--json").json["destroyed"] is False
        assert run("audit", "--json").json["clean"]
        assert run("erase", "0", "--ground", "x", "--json").json["code"] == "no_such_entry"

    def test_epochs_open_and_close(self, run: Run) -> None:
        assert run("epoch", "open", "faces", "--json").json["epoch"] == 1
        run("draw", "faces", "-n", "2")
        assert run("epoch", "close", "faces", "--json").json["epoch"] == 1
        listed = run("epoch", "list", "--json").json["epochs"]
        assert [e["state"] for e in listed] == ["open", "closed"]
        assert (
            run("epoch", "close", "faces", "--epoch", "1", "--json").json["code"] == "epoch_closed"
        )
        unknown = run("epoch", "open", "nobody", "--json")
        assert (unknown.exit, unknown.json["expected"]) == (ExitCode.USAGE, "faces")

    def test_quiet_says_nothing_but_the_result(self, run: Run) -> None:
        assert run("epoch", "open", "faces", "--quiet").err == ""
        assert run("epoch", "open", "faces").err != ""

    def test_doctor_says_what_to_type_next(self, run: Run) -> None:
        checks = run("doctor", "--json").json
        wrong = [c["name"] for c in checks["checks"] if c["ok"] is False]
        assert wrong == ["model faces"], "its file was never copied into this home"


def test_doctor_without_a_home_says_init(run: Run) -> None:
    assert run("doctor", "--json").json["next"] == "latentlog init"
    assert run("doctor").exit == 0


def test_database_revision_is_shown_and_kept(run: Run) -> None:
    run("init")
    assert run("db", "current", "--json").json["revision"] == "0001"
    assert run("db", "upgrade", "--json").json == {
        "schema": "latentlog/db/v0",
        "before": "0001",
        "revision": "0001",
    }


def picture(path: Path) -> None:
    """Save a small picture."""
    from PIL import Image

    Image.new("RGB", (4, 4), "orange").save(path)
