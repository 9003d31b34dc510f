"""An exported graph as plain data: what `archive.py` reads, what the child runs, what the model
digest covers.

A program is a list of calls in static single assignment. Values have numbers in order of
definition; weights are named. Nothing of the exporter's diary (stack traces, module paths, shapes
for one batch) is kept, so the same network exported from another folder has the same digest.
Torch-free.

    ["torch.ops.aten.linear.default",
     [["input", ["value", 0], false], ["weight", ["weight", "l.weight"], false]], [1]]
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from latentlog.inversion.errors import HostileArchive, MalformedArchive, UnsupportedModel
from latentlog.inversion.operators import IGNORED, RANDOM, SYMBOLIC, is_allowed, operator_name

MAX_CALLS: Final = 100_000
DIGEST_LABEL: Final = b"latentlog/model/v0\0"
NO_GRAD: Final = "torch.ops.higher_order.wrap_with_set_grad_enabled"


class DType(NamedTuple):
    """An element type: torch's name and its bytes."""

    name: str
    width: int


DTYPES: Final = {
    1: DType("uint8", 1),
    2: DType("int8", 1),
    3: DType("int16", 2),
    4: DType("int32", 4),
    5: DType("int64", 8),
    6: DType("float16", 2),
    7: DType("float32", 4),
    8: DType("float64", 8),
    12: DType("bool", 1),
    13: DType("bfloat16", 2),
}
"""The schema's ScalarType numbers."""
_MEMORY_FORMATS: Final = {
    1: "contiguous_format",
    2: "channels_last",
    4: "preserve_format",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A named tensor: its elements row by row, little-endian."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Calls in order; value 0 is the latent."""

    calls: tuple[Any, ...]
    """[target, [[name, argument, by keyword], …], [result numbers]] each, JSON-able."""
    output: int
    """The number of the value that is the image."""

    def to_json(self) -> dict[str, Any]:
        """Return the program as plain JSON."""
        return {"calls": list(self.calls), "output": self.output}


def program_digest(program: Program, weights: tuple[Weight, ...]) -> str:
    """Digest the canonical program and every weight's name, type, shape and bytes."""
    text = json.dumps(
        program.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    ).encode()
    state = hashlib.sha256(DIGEST_LABEL + struct.pack(">I", len(text)) + text)
    for weight in sorted(weights, key=lambda w: w.name):
        head = json.dumps([weight.name, weight.dtype, list(weight.shape)]).encode()
        state.update(struct.pack(">I", len(head)) + head + hashlib.sha256(weight.content).digest())
    return state.hexdigest()


def build_program(model: dict[str, Any], weights: dict[str, Weight]) -> Program:
    """Turn the archive's model JSON into a program; raises MalformedArchive and its kin."""
    try:
        _require_schema(model)
        return _Builder(weights).build(model["graph_module"])
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise MalformedArchive(
            "malformed graph", got=f"{type(error).__name__}: {str(error)[:200]}"
        ) from error
    except RecursionError as error:
        raise MalformedArchive("graph nested too deeply") from error


def _require_schema(model: dict[str, Any]) -> None:
    version = model["schema_version"]["major"]
    if version != 8:
        raise UnsupportedModel("unknown schema of the graph", expected="8", got=str(version)[:20])


class _Builder:
    """One pass over the graph; holds the numbers given to names so far."""

    def __init__(self, weights: dict[str, Weight]) -> None:
        self.weights = weights
        self.calls: list[Any] = []
        self.count = 0

    def build(self, module: dict[str, Any]) -> Program:
        scope = self._bind_inputs(module["signature"]["input_specs"])
        outputs = module["signature"]["output_specs"]
        if len(outputs) != 1 or list(outputs[0]) != ["user_output"]:
            raise UnsupportedModel(
                "the model does not return exactly one picture and change nothing",
                expected="one output, no state",
                got=", ".join(next(iter(o)) for o in outputs)[:200],
                next_step="export it in evaluation mode: model.eval()",
            )
        self._run(module["graph"], scope)
        result = self._value(outputs[0]["user_output"]["arg"]["as_tensor"]["name"], scope)
        if result[0] != "value":
            raise UnsupportedModel("the model returns a constant")
        return Program(calls=tuple(self.calls), output=result[1])

    def _bind_inputs(self, specs: list[dict[str, Any]]) -> dict[str, Any]:
        scope: dict[str, Any] = {}
        users = 0
        for spec in specs:
            ((kind, value),) = spec.items()
            if kind == "user_input":
                users += 1
                scope[value["arg"]["as_tensor"]["name"]] = ["value", self._number()]
            elif kind in ("parameter", "buffer", "tensor_constant"):
                scope[value["arg"]["name"]] = self._weight(value[kind + "_name"])
            else:
                raise HostileArchive("the model takes an object as input", got=kind[:50])
        if users != 1:
            raise UnsupportedModel(
                "the model takes other inputs beside the latent", expected="1", got=str(users)
            )
        return scope

    def _weight(self, name: str) -> list[str]:
        if name not in self.weights:
            raise MalformedArchive("the graph uses a weight that the file lacks", got=name[:200])
        return ["weight", name]

    def _number(self) -> int:
        self.count += 1
        return self.count - 1

    def _value(self, name: str, scope: dict[str, Any]) -> Any:
        if name not in scope:
            raise MalformedArchive("the graph uses a value before it exists", got=name[:200])
        return scope[name]

    def _run(self, graph: dict[str, Any], scope: dict[str, Any]) -> None:
        for node in graph["nodes"]:
            if len(self.calls) > MAX_CALLS:
                raise UnsupportedModel("the graph is too long", expected=f"{MAX_CALLS} calls")
            target = node["target"]
            if target == NO_GRAD:
                self._inline(node, scope)
                continue
            name = require_target(target)
            if name in IGNORED:
                continue
            inputs = [
                [str(i["name"]), self._argument(i["arg"], scope), i.get("kind") == 2]
                for i in node["inputs"]
            ]
            _require_evaluation(name, inputs)
            self.calls.append([target, inputs, [self._define(o, scope) for o in node["outputs"]]])

    def _inline(self, node: dict[str, Any], scope: dict[str, Any]) -> None:
        """Run a no-grad block as part of its surroundings: it computes the same, and stays
        differentiable.
        """
        graph = node["inputs"][1]["arg"]["as_graph"]["graph"]
        operands = [self._argument(i["arg"], scope) for i in node["inputs"][2:]]
        names = [i["as_tensor"]["name"] if "as_tensor" in i else i["as_sym_int"]["as_name"]
                 for i in graph["inputs"]]  # fmt: skip
        inner = dict(zip(names, operands, strict=True))
        self._run(graph, inner)
        outputs = [o for listed in node["outputs"] for o in _listed(listed)]
        for outer, result in zip(outputs, graph["outputs"], strict=True):
            scope[outer["name"]] = self._value(result["as_tensor"]["name"], inner)

    def _define(self, output: dict[str, Any], scope: dict[str, Any]) -> Any:
        ((kind, value),) = output.items()
        if kind == "as_none":
            return None
        if kind == "as_tensors":
            return [self._define({"as_tensor": v}, scope) for v in value]
        if kind not in ("as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            raise UnsupportedModel("a call returns an object", got=kind[:50])
        number = self._number()
        scope[value["name"] if kind == "as_tensor" else value["as_name"]] = ["value", number]
        return number

    def _argument(self, argument: dict[str, Any], scope: dict[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind in ("as_tensor", "as_optional_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            return self._reference(kind, value, scope)
        if kind in ("as_tensors", "as_optional_tensors", "as_sym_ints", "as_sym_bools"):
            item_kind = kind.removesuffix("s")
            return ["list", [self._reference(item_kind, v, scope) for v in value]]
        return _constant(kind, value)

    def _reference(self, kind: str, value: dict[str, Any], scope: dict[str, Any]) -> Any:
        if kind == "as_tensor":
            return self._value(value["name"], scope)
        ((inner, item),) = value.items()
        if inner == "as_name":
            return self._value(item, scope)
        if inner == "as_tensor":
            return self._value(item["name"], scope)
        return _constant(inner, item)


def _listed(output: dict[str, Any]) -> list[dict[str, Any]]:
    ((kind, value),) = output.items()
    return list(value) if kind == "as_tensors" else [value]


_SCALARS: Final = {"as_int": int, "as_float": float, "as_string": str, "as_bool": bool}


def _constant(kind: str, value: Any) -> Any:
    """Return a constant argument in its canonical form; numbers keep their type, floats their exact
    text.
    """
    if kind == "as_none":
        return ["none"]
    if kind in _SCALARS:
        return _scalar(_SCALARS[kind], value)
    if kind in ("as_ints", "as_floats", "as_bools", "as_strings"):
        scalar = _SCALARS[kind.removesuffix("s")]
        return ["list", [_scalar(scalar, v) for v in value]]
    if kind == "as_scalar_type":
        return ["dtype", DTYPES[value].name]
    if kind == "as_memory_format":
        return ["memory_format", _MEMORY_FORMATS[value]]
    if kind == "as_layout" and value == 7:
        return ["none"]
    if kind == "as_device":
        # Wherever the exporter's machine ran it, here it runs on the child's device.
        return ["device"]
    raise HostileArchive("a call takes an object or a program as argument", got=kind[:50])


def _scalar(kind: type, value: Any) -> Any:
    if kind is float:
        return ["float", repr(float(value))]
    if type(value) is not kind:
        raise MalformedArchive("malformed constant", expected=kind.__name__, got=str(value)[:50])
    return [kind.__name__, value]


def _require_evaluation(name: str, inputs: list[Any]) -> None:
    """Raise UnsupportedModel when a call belongs to training: it changes weights, or
    mixes a batch.
    """
    arguments = {argument_name: argument for argument_name, argument, _ in inputs}
    changes = name.endswith("_") and bool(inputs) and inputs[0][1][0] == "weight"
    mixes = name == "batch_norm" and arguments.get("training") == ["bool", True]
    if changes or mixes:
        raise UnsupportedModel(
            "the model was exported in training mode",
            expected="a picture that depends on its own latent and changes nothing",
            got=name,
            next_step="export it in evaluation mode: model.eval()",
        )


def require_target(target: object) -> str:
    """Return the operator's base name, or the symbolic target; raises when a program may not call
    it.
    """
    if not isinstance(target, str):
        raise MalformedArchive("malformed call", got=str(target)[:100])
    if target in SYMBOLIC:
        return target
    names = operator_name(target)
    if names is None:
        raise HostileArchive(
            "the model calls something that is no operator of aten", got=target[:100]
        )
    if names[0] in IGNORED or is_allowed(names[0]):
        return names[0]
    if RANDOM.search(names[0]):
        raise UnsupportedModel(
            "the model draws random numbers of its own",
            expected="a picture that depends on the latent alone",
            got=target[:100],
            next_step="export it with its noise switched off or fixed as a buffer",
        )
    raise UnsupportedModel("the model calls an operator that is not on the list", got=target[:100])
