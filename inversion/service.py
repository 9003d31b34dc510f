"""What the model's process can be asked: load, generate, transmit, residuals, invert. Runs in the
child.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch

from latentlog.inversion.compare import compare
from latentlog.inversion.eager import forbid_compilation
from latentlog.inversion.errors import ChildFailed, InversionError
from latentlog.inversion.forward import Channel
from latentlog.inversion.generator import (
    Generator,
    ProgramGenerator,
    load_factory,
    require_faithful,
)
from latentlog.inversion.invert import Inverter
from latentlog.inversion.program import Program, Weight
from latentlog.inversion.result import GeneratorSpec, Inversion, InversionPlan, Observation
from latentlog.inversion.transmit import Transmission

GENERATE_BYTES: Final = 256 << 20
"""Working memory of one forward batch."""
ACTIVATION_FACTOR: Final = 24
"""A forward pass holds about this many times the bytes of its output."""


class Service:
    """One loaded model and the requests about it."""

    def __init__(self, granted: list[str], threads: int) -> None:
        """Start without a model; `granted` are the isolation barriers."""
        forbid_compilation()
        torch.set_num_threads(threads)
        torch.set_grad_enabled(True)
        self.granted = granted
        self.device = torch.device("cpu")
        self.generator: Generator | None = None
        self.spec: GeneratorSpec | None = None
        self.shape = (0, 0, 0)
        self.inverter: Inverter | None = None

    def answer(
        self, header: dict[str, Any], arrays: list[Any], on_step: Callable[[Any], None]
    ) -> tuple[dict[str, Any], Sequence[Any]]:
        """Answer one request with a reply and its arrays."""
        match header["op"]:
            case "load":
                return self._load(header, arrays), ()
            case "generate":
                return {}, (self._generate(arrays[0]),)
            case "transmit":
                return {}, (self._transmit(arrays[0], Channel.from_json(header["channel"])),)
            case "residuals":
                return self._residuals(header, arrays)
            case "invert":
                return self._invert(header, arrays, on_step)
            case other:
                raise InversionError("unknown request", got=str(other)[:50])

    def _load(self, header: dict[str, Any], arrays: list[Any]) -> dict[str, Any]:
        spec = GeneratorSpec(
            **{**header["spec"], "latent_shape": tuple(header["spec"]["latent_shape"])}
        )
        self.device = torch.device(header["device"])
        digest = ""
        if header["format"] == "pt2":
            program = Program(
                calls=tuple(header["program"]["calls"]), output=header["program"]["output"]
            )
            weights = [
                Weight(name=n, dtype=t, shape=tuple(s), content=a.tobytes())
                for (n, t, s), a in zip(header["weights"], arrays, strict=True)
            ]
            self.generator = ProgramGenerator(program, weights, self.device)
        else:
            self.generator, digest = load_factory(
                header["factory"], arrays[0].tobytes(), self.device
            )
        self.spec = spec
        self.shape = require_faithful(self.generator, spec.latent_shape, self.device)
        self.inverter = Inverter(self.generator, spec, self.shape, self.device)
        return {"shape": list(self.shape), "digest": digest, "isolation": self.granted}

    def _require(self) -> tuple[Generator, GeneratorSpec]:
        if self.generator is None or self.spec is None:
            raise ChildFailed("no model is loaded")
        return self.generator, self.spec

    def _generate(self, latents: Any) -> Any:
        generator, _ = self._require()
        bytes_each = 4 * int(np.prod(self.shape)) * ACTIVATION_FACTOR
        rows = max(1, GENERATE_BYTES // bytes_each)
        out = np.empty((len(latents), *self.shape), dtype=np.float32)
        with torch.no_grad():
            for at in range(0, len(latents), rows):
                batch = torch.from_numpy(latents[at : at + rows].copy()).to(self.device)
                out[at : at + rows] = generator(batch).cpu().numpy()
        return out

    def _transmission(self, channel: Channel) -> Transmission:
        _, spec = self._require()
        return Transmission(channel, self.shape, spec.lo, spec.hi, self.device)

    def _transmit(self, images: Any, channel: Channel) -> Any:
        batch = torch.from_numpy(images.copy()).to(self.device)
        with torch.no_grad():
            pixels = self._transmission(channel).pixels(batch)
        return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _residuals(self, header: dict[str, Any], arrays: list[Any]) -> tuple[dict[str, Any], Any]:
        observation = _observation(header["observation"], arrays[1:])
        batch = torch.from_numpy(arrays[0].copy()).to(self.device)
        with torch.no_grad():
            values, maps = compare(self._transmission(observation.channel), batch, observation)
        return {"global": values}, [maps]

    def _invert(
        self, header: dict[str, Any], arrays: list[Any], on_step: Callable[[Any], None]
    ) -> tuple[dict[str, Any], Sequence[Any]]:
        assert self.inverter is not None
        observations, at = [], 0
        for item in header["observations"]:
            count = 1 + item["planes"]
            observations.append(_observation(item, arrays[at : at + count]))
            at += count
        plan = InversionPlan(**header["plan"])
        found = self.inverter.invert(observations, plan, on_step=on_step)
        results: list[Any] = []
        for inversion in found:
            results += [inversion.latent, inversion.gaussian, inversion.sd]
            results += [inversion.reconstruction]
        return {"inversions": [_record(inversion) for inversion in found]}, results


def _observation(item: dict[str, Any], arrays: list[Any]) -> Observation:
    return Observation(
        pixels=arrays[0],
        channel=Channel.from_json(item["channel"]),
        coefficients=tuple(arrays[1:]) if len(arrays) > 1 else None,
    )


def _record(inversion: Inversion) -> dict[str, Any]:
    return {
        "residual": inversion.residual,
        "at_floor": inversion.at_floor,
        "stop": inversion.stop,
        "seconds": inversion.seconds,
        "attempts": [[a.start, a.residual, a.stop] for a in inversion.attempts],
    }
