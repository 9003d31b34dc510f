"""Export a trained reference generator as `.pt2` and `.safetensors`, with a grid of its portraits.

`python examples/reference_models/export.py` reads the averaged weights of both models from
`runs/NAME.pt`; `--name` picks one. The program holds no example inputs, stack traces or paths:
equal weights and versions give an equal graph.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import torch
from network import LATENT, Generator, fold
from portraits import save_grid, to_bytes
from safetensors.torch import save as serialise
from torch.export import Dim, ExportedProgram, save
from torch.export import export as trace

MODELS: Final = ("faces", "faces-sibling")
GRID_SEED: Final = 0
GRID: Final = (10, 6)
TRACES: Final = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node")


def load_trained(checkpoint: Path) -> Generator:
    """Read the averaged generator from a training checkpoint, normalisation folded in."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    trained = Generator(normalise=True)
    trained.load_state_dict(state["average"])
    return fold(trained).eval().requires_grad_(False)


def make_program(generator: Generator) -> ExportedProgram:
    """Trace the generator with a free batch size, and remove what only describes this machine."""
    example = torch.zeros(2, LATENT)
    program = trace(generator, (example,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False)
    for node in program.graph.nodes:
        for name in TRACES:
            node.meta.pop(name, None)
    program.example_inputs = None
    return program


def draw_grid(generator: Generator, path: Path) -> None:
    """Save portraits of latents drawn from `GRID_SEED`."""
    columns, rows = GRID
    chance = torch.Generator().manual_seed(GRID_SEED)
    with torch.no_grad():
        images = generator(torch.randn(columns * rows, LATENT, generator=chance))
    save_grid(to_bytes(images), path, columns, scale=2)


def export(name: str, checkpoint: Path, out: Path) -> None:
    """Write `NAME.pt2`, `NAME.safetensors` and `NAME-grid.png` to `out`."""
    generator = load_trained(checkpoint)
    save(make_program(generator), str(out / f"{name}.pt2"))
    weights = {key: value.contiguous() for key, value in generator.state_dict().items()}
    (out / f"{name}.safetensors").write_bytes(serialise(weights))
    draw_grid(generator, out / f"{name}-grid.png")


def main() -> None:
    """Export the models named."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", action="append", help="default: both models")
    parser.add_argument("--runs", type=Path, default=here / "runs", help="where NAME.pt lies")
    parser.add_argument("--out", type=Path, default=here)
    given = parser.parse_args()
    for name in given.name or MODELS:
        export(name, given.runs / f"{name}.pt", given.out)


if __name__ == "__main__":
    main()
