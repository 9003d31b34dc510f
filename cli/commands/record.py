"""`latentlog draw` and `latentlog record`: latents for generation elsewhere, and its sealing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from latentlog.cli.errors import CliError
from latentlog.cli.files import STANDARD, read_input
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import find_model, open_ledger

if TYPE_CHECKING:
    from latentlog.ledger.home import Home
    from latentlog.ledger.issue import Draw, Seed
    from latentlog.ledger.outputs import Output
    from latentlog.ledger.recorder import Recorder, Sealed

app = typer.Typer()

BATCH: Final = 256
SEEDED: Final = -1
"""The epoch of lines that give a seed: the session chooses it."""
PRIVATE: Final = ("conditioning", "sampler", "compute")
KEYS: Final = {"draw", "seed", "output", *PRIVATE}
LINE: Final = '{"draw": "EPOCH/COUNTER", "output": "PATH"}'


class MalformedLine(CliError):
    """A line of `record` that does not say what was generated."""

    kind = "input"


@dataclass(frozen=True, slots=True)
class Line:
    """One generation as `record` reads it."""

    number: int
    epoch: int
    """`SEEDED` for a seed."""
    counter: int
    fields: dict[str, Any]


@command(
    app,
    panel="Record",
    examples=[
        "latentlog draw faces -n 8 > latents.jsonl",
        "latentlog draw faces -n 8 --recorder worker-1",
    ],
)
def draw(
    invocation: Invocation,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model with an open epoch.")],
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many latents.")],
    recorder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who reserves; the home's own if not given.")
    ] = None,
) -> None:
    """Reserve latents for generation elsewhere, as JSON lines.

    Each line holds `draw` (EPOCH/COUNTER, to be given to `latentlog record`), `latent` (float32
    numbers in the model's own prior, written so that they read back exactly) and `shape`. What is
    not sealed by `record` stays reserved until its epoch is closed.
    """
    from latentlog.ledger.recorder import Recorder

    with open_ledger(invocation) as ledger:
        find_model(ledger, model)
        with Recorder.open(model, home=ledger.home, recorder=recorder) as session:
            drawn = session.reserve_detached(number)
    for row in _rows(drawn):
        invocation.console.record(row)


@command(
    app,
    panel="Record",
    examples=[
        "latentlog record < generated.jsonl",
        "latentlog record generated.jsonl --recorder worker-1",
        """echo '{"draw": "0/12", "output": "12.png"}' | latentlog record""",
    ],
)
def record(
    invocation: Invocation,
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON lines; - for stdin.")
    ] = STANDARD,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model of lines that give a seed.")
    ] = None,
    recorder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who seals; as given to `draw`.")
    ] = None,
) -> None:
    """Seal what was generated from drawn latents.

    One JSON object a line: `draw` "EPOCH/COUNTER", or `seed` with `rng` (torch.cpu or
    numpy.pcg64), `seed` and `shape` for a pipeline that draws its own (needs --model); `output` a
    path; optionally `conditioning`, `sampler`, `compute`, objects that stay private. Nothing is
    sealed unless every line and file can be read; then batches of 256 are sealed, whole or not at
    all. A seed commits to less than a draw: findings say so.
    """
    from latentlog.ledger.recorder import Recorder

    lines = list(_lines(read_input(source)))
    outputs = _outputs(lines)
    if not find_spec("PIL"):
        invocation.console.warn("Pillow is absent: only files' digests are sealed, not pixels'")
    sealed: list[Sealed] = []
    home = _require_epochs(invocation, lines)
    with (
        Recorder.open(model, home=home, recorder=recorder) as session,
        invocation.console.progress("sealing", len(lines)) as advance,
    ):
        done = 0
        for batch in _batches(lines):
            sealed.append(_seal(session, batch, outputs))
            done += len(batch)
            advance(done)
    with open_ledger(invocation) as ledger:
        ledger.log.publish()
    entries = [
        {"draw": f"{s.epoch}/{counter}", "entry": index}
        for s in sealed
        for counter, index in s.entries.items()
    ]
    invocation.console.emit(
        {"schema": "latentlog/record/v0", "sealed": entries},
        *(f"{e['draw']} sealed, entry {e['entry']}" for e in entries),
    )


def _rows(drawn: Draw) -> Iterator[dict[str, Any]]:
    shape = list(drawn.latents.shape[1:])
    for counter, latent in zip(drawn.counters, drawn.latents, strict=True):
        # float32 → float is exact, and JSON's shortest form of it reads back the same.
        numbers = [float(value) for value in latent.ravel()]
        yield {"draw": f"{drawn.epoch}/{counter}", "shape": shape, "latent": numbers}


def _lines(content: bytes) -> Iterator[Line]:
    seen: set[tuple[int, int]] = set()
    for number, text in enumerate(content.splitlines(), start=1):
        if not text.strip():
            continue
        line = _line(number, text)
        if line.epoch != SEEDED and (line.epoch, line.counter) in seen:
            raise MalformedLine(f"line {number} names {line.epoch}/{line.counter} again")
        seen.add((line.epoch, line.counter))
        yield line


def _line(number: int, text: bytes) -> Line:
    try:
        fields = json.loads(text)
        known = isinstance(fields, dict) and fields.keys() <= KEYS
    except (ValueError, RecursionError):
        known = False
    if not known or ("draw" in fields) == ("seed" in fields):
        raise MalformedLine(
            f"line {number} is not a record", expected=LINE, got=text[:120].decode(errors="replace")
        )
    if "seed" in fields:
        return Line(number, SEEDED, number, fields)
    epoch, slash, counter = str(fields["draw"]).partition("/")
    if not (slash and epoch.isdecimal() and counter.isdecimal()):
        raise MalformedLine(
            f"line {number}: not a draw", expected="EPOCH/COUNTER", got=str(fields["draw"])
        )
    return Line(number, int(epoch), int(counter), fields)


def _outputs(lines: list[Line]) -> dict[int, Output]:
    """Read every output before anything is sealed."""
    from latentlog.ledger.digest import Digest
    from latentlog.ledger.outputs import Output

    outputs = {}
    for line in lines:
        if not isinstance(line.fields.get("output"), str):
            raise MalformedLine(f"line {line.number} names no output file", expected=LINE)
        content = Path(line.fields["output"]).read_bytes()
        pixels = None
        if find_spec("PIL"):
            from latentlog.inversion.picture import read_picture

            pixels = read_picture(content).pixels
        outputs[line.number] = Output(file_sha256=Digest.of(content), pixels=pixels)
    return outputs


def _require_epochs(invocation: Invocation, lines: list[Line]) -> Home:
    """Return the home if its log has every epoch that a line names."""
    from latentlog.ledger.epochs import epoch_states

    with open_ledger(invocation) as ledger:
        known = {state.epoch for state in epoch_states(ledger.log)}
    for line in lines:
        if line.epoch != SEEDED and line.epoch not in known:
            raise MalformedLine(f"line {line.number} names epoch {line.epoch}, which is not there")
    return ledger.home


def _batches(lines: list[Line]) -> Iterator[list[Line]]:
    ordered = sorted(lines, key=lambda line: (line.epoch, line.counter))
    for _, members in groupby(ordered, key=lambda line: line.epoch):
        batch = list(members)
        for at in range(0, len(batch), BATCH):
            yield batch[at : at + BATCH]


def _seal(session: Recorder, batch: list[Line], outputs: dict[int, Output]) -> Sealed:
    files = [outputs[line.number] for line in batch]
    private = {name: [line.fields.get(name) for line in batch] for name in PRIVATE}
    if batch[0].epoch == SEEDED:
        return session.seal_seed([_seed(line) for line in batch], outputs=files, **private)
    counters = [line.counter for line in batch]
    return session.seal_detached(batch[0].epoch, counters, outputs=files, **private)


def _seed(line: Line) -> Seed:
    """Draw a seed's latent again, so that the entry commits to it and not to the seed alone."""
    import numpy as np

    from latentlog.evidence.seeded import draw_again
    from latentlog.ledger.issue import Seed
    from latentlog.ledger.keystream import SCALE, latent_digest

    given = line.fields["seed"]
    try:
        rng, seed = str(given["rng"]), int(given["seed"])
        shape = tuple(int(side) for side in given["shape"])
        latent = draw_again({"rng": rng, "seed": str(seed), "shape": shape}, math.prod(shape))
    except (KeyError, TypeError, ValueError):
        latent = None
    if latent is None:
        raise MalformedLine(
            f"line {line.number}: not a seed that can be drawn again",
            expected='{"rng": "torch.cpu", "seed": "42", "shape": [1, 128]}, or rng numpy.pcg64',
            got=json.dumps(given)[:120],
        )
    integers = np.rint(latent * SCALE).astype(np.int32)
    return Seed(rng=rng, seed=seed, shape=shape, latent=latent_digest(integers))
