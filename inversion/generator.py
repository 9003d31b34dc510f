"""Generators in the child: a function from latents (B, *latent) to images (B, C, H, W),
differentiable.

`ProgramGenerator` runs a checked program (`program.py`) call by call. It needs no `torch.export`,
so it starts in the time torch itself takes, and its functions work under `torch.func`.
`load_factory` imports somebody's Python instead and is reached only with their user's permission.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import math
import operator
import re
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from latentlog.inversion.errors import UnfaithfulModel, UnsupportedModel
from latentlog.inversion.operators import operator_name
from latentlog.inversion.program import Program, Weight

FACTORY_LABEL: Final = b"latentlog/factory-model/v0\0"


class Generator(Protocol):
    """The model under examination; `parameters` are constants."""

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the images of `latents`; each row depends on its own latent alone."""


# -- exported programs -----------------------------------------------------------------------------

_PLAIN_TYPES: Final = frozenset("Tensor number int float bool str Device SymInt".split())
"""Argument types an allowed operator may have; Storage, Generator, Stream and the like are not
among them.
"""
_UNINITIALISED: Final = frozenset(("empty", "empty_like", "new_empty"))
"""What these return is cleared: stale memory would be a state that outlives a picture."""
_DETACHING: Final = frozenset(("detach", "detach_", "lift_fresh"))


def _same(value: Any, *_: Any, **__: Any) -> Any:
    return value


def _resolve(target: str) -> Callable[..., Any]:
    """Find the function of an allowed target."""
    names = operator_name(target)
    if names is None:
        module, name = target.rsplit(".", 1)
        owner = {"_operator": operator, "math": math, "torch": torch}[module]
        return getattr(owner, name)  # type: ignore[no-any-return]
    if names[0] in _DETACHING:
        # The same values, but the derivative goes through: a model cannot hide from inversion
        # behind `detach`.
        return _same
    overload = getattr(getattr(torch.ops.aten, names[0], None), names[1], None)
    if overload is None:
        raise UnsupportedModel(
            "this torch does not know an operator of the model", got=target[:100]
        )
    types = " ".join(str(argument.type) for argument in overload._schema.arguments)
    if not set(re.findall(r"\w+", types)) - {"Optional", "List"} <= _PLAIN_TYPES:
        raise UnsupportedModel(
            "the model calls an operator on something that is no tensor", got=target[:100]
        )
    if names[0] in _UNINITIALISED:
        return lambda *given, **named: overload(*given, **named).zero_()
    return overload  # type: ignore[no-any-return]


def weight_tensor(weight: Weight) -> Tensor:
    """Make a tensor of a weight's bytes."""
    dtype: torch.dtype = getattr(torch, weight.dtype)
    if not weight.content:
        return torch.zeros(weight.shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(weight.content), dtype=dtype)
    return flat.reshape(weight.shape)


def _affine_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool,
) -> Tensor:
    """Normalise with running statistics; torch's own kernel has no fast forward derivative."""
    scale = torch.rsqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    shape = [1, -1] + [1] * (x.ndim - 2)
    return x * scale.view(shape) + shift.view(shape)


def _plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """Attend by matrix products; the fused kernel has no forward derivative."""
    kwargs = {k: v for k, v in options.items() if k in ("scale", "enable_gqa")}
    attend = torch.ops.aten._scaled_dot_product_attention_math.default
    result: Tensor = attend(query, key, value, attn_mask, dropout_p, is_causal, None, **kwargs)[0]
    return result


def _copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """Return `source` in the shape and type of `target`."""
    return source.to(target.dtype).expand(target.shape).clone()


_LINEARISED: Final[dict[Any, Callable[..., Any]]] = {
    torch.ops.aten.batch_norm.default: _affine_norm,
    torch.ops.aten.scaled_dot_product_attention.default: _plain_attention,
    torch.ops.aten.copy.default: _copied,
}


class ProgramGenerator:
    """Runs a program's calls in order, dropping every value after its last use."""

    def __init__(self, program: Program, weights: Iterable[Weight], device: torch.device) -> None:
        """Resolve every call and place the weights on `device`."""
        self.device = device
        self.weights = {w.name: weight_tensor(w).to(device) for w in weights}
        self.output = program.output
        last = _last_uses(program)
        self.steps = [
            (_resolve(target), inputs, outputs, last.get(i, ()))
            for i, (target, inputs, outputs) in enumerate(program.calls)
        ]

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the images of `latents`."""
        values: dict[int, Any] = {0: latents}
        for function, inputs, outputs, done in self.steps:
            positional = [self._argument(a, values) for _, a, keyword in inputs if not keyword]
            named = {n: self._argument(a, values) for n, a, keyword in inputs if keyword}
            _store(values, outputs, function(*positional, **named))
            for slot in done:
                values.pop(slot, None)
        image: Tensor = values[self.output]
        return image

    def require_unchanged(self) -> None:
        """Raise UnfaithfulModel if a call wrote into a weight through some view of it."""
        changed = [name for name, tensor in self.weights.items() if tensor._version]
        if changed:
            raise UnfaithfulModel("the model changes its own weights", got=changed[0][:200])

    def differentiable(self) -> ProgramGenerator:
        """Return the same function with operators that torch linearises faster; it may round
        differently.
        """
        twin = copy.copy(self)
        twin.steps = [
            (_LINEARISED.get(function, function), *rest) for function, *rest in self.steps
        ]
        return twin

    def _argument(self, argument: Any, values: dict[int, Any]) -> Any:
        kind = argument[0]
        if kind == "value":
            return values[argument[1]]
        if kind == "weight":
            return self.weights[argument[1]]
        if kind == "list":
            return [self._argument(item, values) for item in argument[1]]
        if kind == "none":
            return None
        if kind == "float":
            return float(argument[1])
        if kind in ("dtype", "memory_format"):
            return getattr(torch, argument[1])
        if kind == "device":
            return self.device
        return argument[1]


def _store(values: dict[int, Any], outputs: list[Any], result: Any) -> None:
    """Give a call's results their numbers; a list-valued result is numbered item by item."""
    if len(outputs) == 1 and not isinstance(outputs[0], list):
        if outputs[0] is not None:
            values[outputs[0]] = result
        return
    if len(outputs) == 1 and isinstance(outputs[0], list):
        outputs = outputs[0]
    for slot, item in zip(outputs, result, strict=False):
        if isinstance(slot, list):
            _store(values, [slot], item)
        elif slot is not None:
            values[slot] = item


def _last_uses(program: Program) -> dict[int, tuple[int, ...]]:
    """For each call, list the values nobody reads after it."""
    last: dict[int, int] = {}
    for i, (_, inputs, outputs) in enumerate(program.calls):
        for slot in (*_slots([a for _, a, _ in inputs]), *_numbers(outputs)):
            last[slot] = i
    last.pop(program.output, None)
    done: dict[int, list[int]] = {}
    for slot, i in last.items():
        done.setdefault(i, []).append(slot)
    return {i: tuple(slots) for i, slots in done.items()}


def _slots(arguments: list[Any]) -> Iterable[int]:
    for argument in arguments:
        if argument[0] == "value":
            yield argument[1]
        elif argument[0] == "list":
            yield from _slots(argument[1])


def _numbers(outputs: list[Any]) -> Iterable[int]:
    for output in outputs:
        if isinstance(output, list):
            yield from _numbers(output)
        elif output is not None:
            yield output


# -- factories -------------------------------------------------------------------------------------


def load_factory(name: str, weights: bytes, device: torch.device) -> tuple[Generator, str]:
    """Call `module:function`, load safetensors into what it returns, and digest both."""
    from safetensors.torch import load

    module_name, _, function = name.partition(":")
    module = getattr(importlib.import_module(module_name), function)()
    state = load(weights)
    module.load_state_dict(state)
    module.eval().requires_grad_(False).to(device)
    return module, factory_digest(name, state)


def factory_digest(name: str, state: dict[str, Tensor]) -> str:
    """Digest a factory's name and its weights; its Python is outside the digest, as the
    entry says.
    """
    digest = hashlib.sha256(FACTORY_LABEL + struct.pack(">I", len(name.encode())) + name.encode())
    for key in sorted(state):
        tensor = state[key].contiguous().cpu()
        head = f"{key}\0{tensor.dtype}\0{list(tensor.shape)}".encode()
        content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        digest.update(struct.pack(">I", len(head)) + head + hashlib.sha256(content).digest())
    return digest.hexdigest()


# -- what is asked of every generator --------------------------------------------------------------

MAX_SIDE: Final = 4096
REPEATABILITY: Final = 1e-3
"""Of the range; a batch may round differently from a single latent, not more."""


def require_faithful(
    generator: Generator, latent_shape: tuple[int, ...], device: torch.device
) -> tuple[int, int, int]:
    """Try the model and return its (C, H, W); raises UnfaithfulModel.

    It must take any batch, give the same picture twice, and let no picture depend on its
    neighbours.
    """
    draw = torch.Generator().manual_seed(0)
    latents = torch.rand((3, *latent_shape), generator=draw).mul_(2).sub_(1).to(device)
    try:
        with torch.no_grad():
            images, again = generator(latents.clone()), generator(latents.clone())
            alone = generator(latents[1:2].clone())
    except (RuntimeError, IndexError, TypeError, ValueError, KeyError) as error:
        raise UnfaithfulModel(
            "the model does not run on its declared latent shape",
            expected=f"float32 (B, {', '.join(map(str, latent_shape))}), any B",
            got=str(error).splitlines()[0][:300] if str(error) else type(error).__name__,
            next_step="check --latent-shape, and that the export's batch is dynamic",
        ) from error
    if isinstance(generator, ProgramGenerator):
        generator.require_unchanged()
    _require_image(images)
    spread = float(images.max() - images.min()) or 1.0
    if float((images - again).abs().max()) > REPEATABILITY * spread:
        raise UnfaithfulModel("the model gives another picture each time")
    if float((images[1:2] - alone).abs().max()) > REPEATABILITY * spread:
        raise UnfaithfulModel(
            "a picture depends on the others of its batch",
            next_step="export the model in evaluation mode: model.eval()",
        )
    return images.shape[1], images.shape[2], images.shape[3]


def _require_image(images: Any) -> None:
    good = (
        isinstance(images, Tensor)
        and images.dtype == torch.float32
        and images.ndim == 4
        and images.shape[0] == 3
        and images.shape[1] in (1, 3)
        and 1 <= images.shape[2] <= MAX_SIDE
        and 1 <= images.shape[3] <= MAX_SIDE
    )
    if not good:
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else "no tensor"
        raise UnfaithfulModel(
            "the model's output is no batch of pictures",
            expected="float32 (B, 1 or 3, H, W)",
            got=got,
        )
    if not bool(torch.isfinite(images).all()):
        raise UnfaithfulModel("the model's output is not finite")
