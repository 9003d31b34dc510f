"""`latentlog generate`: the reference recorder, from draw to sealed picture."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from latentlog.cli.errors import OutputExists
from latentlog.cli.files import write_output
from latentlog.cli.options import Invocation, command
from latentlog.cli.wiring import find_model, open_ledger, require_extra, start_model

if TYPE_CHECKING:
    from latentlog.inversion.sandbox import ModelProcess
    from latentlog.ledger.issue import Draw
    from latentlog.ledger.outputs import Output
    from latentlog.ledger.recorder import Recorder

app = typer.Typer()

BATCH: Final = 64
"""Pictures generated at a time; a seal covers at most 256."""


@command(
    app,
    panel="Record",
    examples=[
        "latentlog generate faces -n 500 --out pictures",
        "latentlog generate faces -n 8 --out pictures --recorder worker-1",
    ],
)
def generate(
    invocation: Invocation,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model with an open epoch.")],
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many pictures.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for COUNTER.png files.")],
    recorder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who seals; the home's own if not given.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run the Python of a factory model.")
    ] = False,
) -> None:
    """Draw latents, generate, and seal every picture.

    Each picture is on disk before it is sealed and sealed before the next batch begins. A crash
    leaves pictures that the log names, or counters that the next start logs as abandoned.
    """
    from latentlog.ledger.recorder import DEFAULT_BLOCK, Recorder

    require_extra("torch", "PIL")
    with open_ledger(invocation) as ledger:
        entry = find_model(ledger, model)
        out.mkdir(parents=True, exist_ok=True)
        with (
            start_model(ledger, entry, trust_code=trust_code) as process,
            Recorder.open(
                model, home=ledger.home, recorder=recorder, block=min(number, DEFAULT_BLOCK)
            ) as session,
            invocation.console.progress(f"generating with {model}", number) as advance,
        ):
            counters = _generate(session, process, number, out, advance)
        ledger.log.publish()
        size = ledger.log.checkpoint().checkpoint.size
    invocation.console.emit(
        {
            "schema": "latentlog/generate/v0",
            "model": model,
            "epoch": counters["epoch"],
            "first": counters["first"],
            "count": number,
            "out": str(out),
            "checkpoint": size,
        },
        f"{number} pictures in {out}, counters {counters['first']} to {counters['last']} "
        f"of epoch {counters['epoch']}",
        f"sealed; checkpoint over {size} entries",
    )


def _generate(
    session: Recorder, process: ModelProcess, number: int, out: Path, advance: Any
) -> dict[str, int]:
    first = last = -1
    done = 0
    while done < number:
        draw = session.draw(min(BATCH, number - done))
        outputs = _pictures(process, draw, out)
        session.seal(draw, outputs=outputs, sampler=_sampler(process), compute=_compute(process))
        first, last = draw.first if first < 0 else first, draw.counters[-1]
        done += draw.count
        advance(done)
    return {"epoch": session.epoch, "first": first, "last": last}


def _pictures(process: ModelProcess, draw: Draw, out: Path) -> list[Output]:
    from latentlog.inversion.distort import distort
    from latentlog.inversion.picture import to_8bit
    from latentlog.ledger.digest import Digest
    from latentlog.ledger.outputs import Output

    spec = process.description.spec
    images = to_8bit(process.generate(draw.latents), spec.lo, spec.hi)  # (B, C, H, W)
    outputs = []
    for counter, image in zip(draw.counters, images, strict=True):
        pixels = image.transpose(1, 2, 0)  # (H, W, C)
        png = distort(pixels, {"distortion": "png", "strength": 0})
        path = out / f"{counter:08d}.png"
        if path.exists():
            raise OutputExists(
                f"{path} exists already; it was not overwritten", next_step="use an empty folder"
            )
        write_output(path, png)
        outputs.append(Output(file_sha256=Digest.of(png), pixels=pixels))
    return outputs


def _sampler(process: ModelProcess) -> dict[str, Any]:
    spec = process.description.spec
    return {"kind": spec.kind, "steps": spec.steps}


def _compute(process: ModelProcess) -> dict[str, Any]:
    return {
        "device": "cpu",
        "latentlog": version("latentlog"),
        "model": process.description.digest,
        "torch": version("torch"),
    }
