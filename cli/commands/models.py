"""`latentlog model`: registering generators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from latentlog.cli.console import columns
from latentlog.cli.errors import CliError
from latentlog.cli.options import Invocation, command
from latentlog.cli.render import model_document
from latentlog.cli.wiring import keep_model, open_ledger, require_extra, require_new_name

if TYPE_CHECKING:
    from latentlog.inversion.result import GeneratorSpec, ModelDescription
    from latentlog.inversion.sandbox import ModelSource
    from latentlog.ledger.entry import ModelEntry

app = typer.Typer(help="The generators under examination: `add`, `list`.")

FAMILIES: Final = (10**3, 10**6, 10**9)
"""Numbers of compared latents for which registration prints the cosine that is needed."""
P_PRODUCED: Final = 1e-6


class ContradictoryOptions(CliError):
    """Options that exclude each other, or one that needs another."""


@command(
    app,
    examples=[
        "latentlog model add faces --generator faces.pt2 --latent-dim 128",
        "latentlog model add old --generator old.pt2 --prior uniform --latent-shape 100,1,1"
        " --range 0,1",
        "latentlog model add own --factory net:faces --weights faces.safetensors --latent-dim 128"
        " --trust-code",
    ],
)
def add(
    invocation: Invocation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's public name.")],
    generator: Annotated[
        Path | None, typer.Option(metavar="FILE.pt2", help="A torch.export archive.")
    ] = None,
    factory: Annotated[
        str | None, typer.Option(metavar="MODULE:FUNCTION", help="Python that builds the model.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE.safetensors", help="The factory's weights.")
    ] = None,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run the factory's Python.")
    ] = False,
    prior: Annotated[
        Literal["normal", "uniform"], typer.Option(help="Latents are N(0, 1) or U(-1, 1).")
    ] = "normal",
    latent_dim: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Coordinates of a flat latent.")
    ] = None,
    latent_shape: Annotated[
        str | None, typer.Option(metavar="C,H,W", help="Shape of any other latent.")
    ] = None,
    range_: Annotated[
        str,
        typer.Option("--range", metavar="LO,HI", help="The outputs that become 0 and 255."),
    ] = "-1,1",
    kind: Annotated[
        Literal["decoder", "flow", "ddim"], typer.Option(help="How the model generates.")
    ] = "decoder",
    steps: Annotated[
        int, typer.Option(metavar="N", min=0, help="Sampler steps of a flow or ddim model.")
    ] = 0,
) -> None:
    """Register a generator: (B, *latent) float32 to (B, C, H, W).

    The file is read strictly, tried out in a process that holds no key, copied into the home
    under its digest, and its identity is logged. It prints how close a recovered latent has to
    be before coincidence is excluded, and what its process was kept from.
    """
    from latentlog.inversion.result import GeneratorSpec
    from latentlog.inversion.sandbox import ModelProcess
    from latentlog.ledger.registry import add_model

    require_extra("torch")
    source = _source(generator, factory, weights, trust_code)
    lo, hi = _numbers(range_, "--range", 2)
    spec = GeneratorSpec(
        latent_shape=_shape(latent_dim, latent_shape),
        prior=prior,
        lo=lo,
        hi=hi,
        kind=kind,
        steps=steps,
    )
    with open_ledger(invocation) as ledger:
        require_new_name(ledger, name)
        with ModelProcess.start(source, spec) as process:
            description = process.description
        entry = _entry(name, description)
        keep_model(ledger.home, source, description.digest)
        index = add_model(ledger.log, entry).first
        ledger.log.publish()
    _print_model(invocation, index, entry, description)


@command(app, name="list", examples=["latentlog model list --json"])
def list_(invocation: Invocation) -> None:
    """List the registered models."""
    from latentlog.ledger.registry import models

    with open_ledger(invocation) as ledger:
        rows = [model_document(index, entry) for index, entry in models(ledger.log)]
    shown = [
        (r["name"], r["prior"], r["latent_shape"], r["output_shape"], r["entry"], r["digest"])
        for r in rows
    ]
    invocation.console.emit(
        {"schema": "latentlog/models/v0", "models": rows},
        *columns([("MODEL", "PRIOR", "LATENT", "OUTPUT", "ENTRY", "DIGEST"), *shown]),
    )


def _source(
    generator: Path | None, factory: str | None, weights: Path | None, trust_code: bool
) -> ModelSource:
    from latentlog.inversion.sandbox import ModelSource

    if generator and not (factory or weights):
        generator.stat()
        return ModelSource.pt2(generator)
    if factory and weights and not generator:
        weights.stat()
        return ModelSource.factory(factory, weights, trust_code=trust_code)
    raise ContradictoryOptions(
        "name the model's file",
        expected="--generator FILE.pt2, or --factory MODULE:FUNCTION with --weights FILE",
        next_step="latentlog model add --help",
    )


def _shape(dim: int | None, shape: str | None) -> tuple[int, ...]:
    if (dim is None) == (shape is None):
        raise ContradictoryOptions(
            "give the latent's size once", expected="either --latent-dim or --latent-shape"
        )
    if shape is None:
        return (dim or 0,)
    sides = _numbers(shape, "--latent-shape")
    if not all(side.is_integer() and side >= 1 for side in sides):
        raise ContradictoryOptions(
            "a shape is a list of positive integers", expected="such as 100,1,1", got=shape
        )
    return tuple(int(side) for side in sides)


def _numbers(text: str, option: str, count: int | None = None) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or (count is not None and len(numbers) != count):
        raise ContradictoryOptions(
            f"{option} takes {count or 'some'} numbers with commas between", got=text
        )
    return numbers


def _entry(name: str, description: ModelDescription) -> ModelEntry:
    from latentlog.ledger.digest import Digest
    from latentlog.ledger.entry import ModelEntry
    from latentlog.ledger.keystream import TABLE_DIGEST

    spec: GeneratorSpec = description.spec
    return ModelEntry(
        name=name,
        digest=Digest.fromhex(description.digest),
        file_sha256=Digest.fromhex(description.file_sha256),
        format=description.format,
        generator_kind=spec.kind,
        steps=spec.steps,
        prior=spec.prior,
        latent_shape=spec.latent_shape,
        output_shape=description.output_shape,
        range=(spec.lo, spec.hi),
        table=TABLE_DIGEST,
    )


def _print_model(
    invocation: Invocation, index: int, entry: ModelEntry, description: ModelDescription
) -> None:
    needed = _cosines_needed(entry.dim)
    document: dict[str, Any] = {
        "schema": "latentlog/model/v0",
        **model_document(index, entry),
        "isolation": list(description.isolation),
        "cosine_needed": {str(n): cosine for n, cosine in needed.items()},
    }
    invocation.console.emit(
        document,
        f"model {entry.name}, entry {index}",
        f"digest {entry.digest.hex()}",
        f"{entry.dim} latent coordinates, {entry.prior}, to {_times(entry.output_shape)}",
        f"its process was kept from: {', '.join(description.isolation) or 'nothing'}",
        "cosine needed so that coincidence has at most one chance in a million:",
        *(f"  {_needed(cosine)} among {n:,} latents" for n, cosine in needed.items()),
    )
    invocation.console.say(f"next: latentlog epoch open {entry.name}")


def _needed(cosine: float | None) -> str:
    return "out of reach" if cosine is None else f"{cosine:.3f}"


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _cosines_needed(dim: int) -> dict[int, float | None]:
    from latentlog.evidence.null import cosine_needed

    return {n: cosine_needed(P_PRODUCED, dim, n) for n in FAMILIES}
