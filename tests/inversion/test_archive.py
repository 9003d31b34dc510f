"""The strict reader: both known code executions, and every other way a `.pt2` could be more than
data.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentlog.inversion.archive import decode_archive, read_archive
from latentlog.inversion.errors import (
    HostileArchive,
    InversionError,
    MalformedArchive,
    UnsupportedModel,
)
from latentlog.inversion.payloads import require_expression
from tests.inversion.builders import (
    TINY,
    TinyDecoder,
    edit_json,
    rewrite,
    save,
    tensor_pickle,
)

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
SAMPLE = "data/sample_inputs/model.pt"


class Calls:
    """Pickles to a call of `open(path, "w")`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def loads_with_torch(path: Path) -> None:
    """Load a file the trusting way, in a process of its own."""
    code = f"import torch; torch.export.load({str(path)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=False)


# -- the two attacks -------------------------------------------------------------------------


def test_pickled_sample_inputs_run_in_torch_and_are_refused_here(
    tiny_pt2: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    hostile = rewrite(
        tiny_pt2,
        tmp_path / "hostile.pt2",
        lambda name, old: tensor_pickle(Calls(mark)) if name == SAMPLE else old,
    )
    loads_with_torch(hostile)
    assert mark.exists(), (
        "torch.export.load no longer unpickles sample inputs: reconsider the fence"
    )
    mark.unlink()
    with pytest.raises(HostileArchive) as caught:
        read_archive(hostile)
    assert "open" in str(caught.value.got)
    assert not mark.exists()


def test_evaluated_expressions_run_in_torch_and_are_refused_here(
    tiny_pt2: Path, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    payload = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def poison(model: dict[str, Any]) -> None:
        values = model["graph_module"]["graph"]["tensor_values"]
        latent = model["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"]
        values[latent]["sizes"][0]["as_expr"]["expr_str"] = payload

    hostile = edit_json(tiny_pt2, tmp_path / "hostile.pt2", MODEL, poison)
    loads_with_torch(hostile)
    assert mark.exists(), "torch.export.load no longer evaluates expr_str: reconsider the fence"
    mark.unlink()
    with pytest.raises(HostileArchive, match="not arithmetic"):
        read_archive(hostile)
    assert not mark.exists()


# -- other payloads --------------------------------------------------------------------------


def test_pickled_weights_are_refused(tiny_pt2: Path, tmp_path: Path) -> None:
    def poison(config: dict[str, Any]) -> None:
        next(iter(config["config"].values()))["use_pickle"] = True

    hostile = edit_json(tiny_pt2, tmp_path / "x.pt2", WEIGHTS, poison)
    with pytest.raises(HostileArchive, match="pickled"):
        read_archive(hostile)


@pytest.mark.parametrize(
    "member",
    [
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/aotinductor/model/run.so",
        "data/weights/model.pt",
        "code.pkl",
    ],
)
def test_objects_and_compiled_code_are_refused(tiny_pt2: Path, tmp_path: Path, member: str) -> None:
    hostile = rewrite(tiny_pt2, tmp_path / "x.pt2", lambda _, old: old, {member: b"\x80\x02."})
    with pytest.raises(HostileArchive):
        read_archive(hostile)


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.resize_.default",
        "torch.ops.prim.os.default",
        "torch.ops.inductor.resize_storage_bytes_.default",
        "torch.ops.higher_order.cond",
        "builtins.eval",
        "os.system",
        "_operator.attrgetter",
        "torch.load",
        "torch.ops.aten.add.Tensor.__globals__",
        "",
    ],
)
def test_calls_outside_the_list_are_refused(tiny_pt2: Path, tmp_path: Path, target: str) -> None:
    def poison(model: dict[str, Any]) -> None:
        model["graph_module"]["graph"]["nodes"][-1]["target"] = target

    hostile = edit_json(tiny_pt2, tmp_path / "x.pt2", MODEL, poison)
    with pytest.raises((HostileArchive, UnsupportedModel)):
        read_archive(hostile)


@pytest.mark.parametrize(
    "argument",
    [
        {"as_custom_obj": {"name": "x", "class_fqn": "y"}},
        {"as_operator": "torch.ops.aten.add"},
        {"as_graph": {"name": "g", "graph": {}}},
        {"as_string_to_argument": {"a": {"as_int": 1}}},
        {"as_int": "1"},
        {"as_int": True},
        {"as_tensor": {"name": "nowhere"}},
        {},
    ],
)
def test_arguments_that_are_no_plain_values_are_refused(
    tiny_pt2: Path, tmp_path: Path, argument: dict[str, Any]
) -> None:
    def poison(model: dict[str, Any]) -> None:
        model["graph_module"]["graph"]["nodes"][-1]["inputs"][0]["arg"] = argument

    with pytest.raises(MalformedArchive):
        read_archive(edit_json(tiny_pt2, tmp_path / "x.pt2", MODEL, poison))


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s68', positive=True, integer=True)",
        "Mul(Integer(64), Symbol('s68', positive=True, integer=True))",
        "Add(Integer(-1), Symbol('s0', integer=True))",
        "FloorDiv(Symbol('s0', integer=True), Integer(2))",
        "Max(1, Mod(s0, 2))",
        "8*s0 + 1",
    ],
)
def test_what_exporters_write_is_accepted(text: str) -> None:
    require_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')",
        "Symbol('s0').__class__",
        "Symbol('s0; import os')",
        "Function('f')(1)",
        "Lambda(x, x)",
        "eval('1')",
        "Add(1)(2)",
        "s0 if s0 else s1",
        "9**9",
        "[].__class__",
        "'a'",
        "s0" * 3000,
        17,
        None,
    ],
)
def test_expressions_outside_the_grammar_are_refused(text: object) -> None:
    with pytest.raises(HostileArchive):
        require_expression(text)


# -- the zip ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize(
    ("name", "compression"),
    [
        ("tiny/models/model.json", zipfile.ZIP_STORED),
        ("tiny/extra/../../x", zipfile.ZIP_STORED),
        ("other/models/model.json", zipfile.ZIP_STORED),
        ("tiny/models/second.json", zipfile.ZIP_STORED),
        ("tiny/extra/notes.txt", zipfile.ZIP_DEFLATED),
    ],
)
def test_compressed_repeated_unknown_and_outside_members_are_refused(
    tiny_pt2: Path, name: str, compression: int
) -> None:
    buffer = io.BytesIO(tiny_pt2.read_bytes())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, b"x" * 50, compress_type=compression)
    with pytest.raises(MalformedArchive):
        decode_archive(buffer.getvalue())


def test_truncation_and_random_damage_are_refused_cleanly(tiny_pt2: Path) -> None:
    data = tiny_pt2.read_bytes()
    rng = np.random.default_rng(2)
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        with pytest.raises(MalformedArchive):
            decode_archive(data[:cut])
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            broken[at] = rng.integers(0, 256)
        try:
            decode_archive(bytes(broken))
        except InversionError:
            continue


def test_json_with_repeated_keys_or_endless_nesting_is_refused(
    tiny_pt2: Path, tmp_path: Path
) -> None:
    for text in (b'{"a": 1, "a": 2}', b"[" * 100_000, b'{"schema_version": {"major": 8}}', b"[]"):
        hostile = rewrite(
            tiny_pt2, tmp_path / "x.pt2", lambda n, old, t=text: t if n == MODEL else old
        )
        with pytest.raises(MalformedArchive):
            read_archive(hostile)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [{"as_int": 1 << 30}]),
        ("sizes", [{"as_int": -1}]),
        ("sizes", [{"as_expr": {"expr_str": "s0"}}]),
        ("strides", [{"as_int": 1 << 20}]),
        ("strides", []),
        ("storage_offset", {"as_int": 1 << 39}),
        ("dtype", 9),
        ("dtype", "float"),
        ("layout", 1),
    ],
)
def test_weights_that_reach_outside_their_bytes_are_refused(
    tiny_pt2: Path, tmp_path: Path, key: str, value: Any
) -> None:
    def poison(config: dict[str, Any]) -> None:
        config["config"]["out.bias"]["tensor_meta"][key] = value

    with pytest.raises(MalformedArchive):
        read_archive(edit_json(tiny_pt2, tmp_path / "x.pt2", WEIGHTS, poison))


# -- models that are no generators -----------------------------------------------------------


class Noisy(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return (z + torch.rand_like(z)).view(-1, 1, 4, 4)


class TwoInputs(nn.Module):
    def forward(self, z: Tensor, w: Tensor) -> Tensor:
        return (z + w).view(-1, 1, 4, 4)


def test_a_model_that_draws_its_own_noise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="random"):
        read_archive(save(Noisy(), (16,), tmp_path / "noisy.pt2"))


def test_a_model_in_training_mode_is_refused(tmp_path: Path) -> None:
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(
        TinyDecoder().train(), (torch.zeros(2, 24),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, tmp_path / "train.pt2")
    with pytest.raises(UnsupportedModel, match="training mode") as caught:
        read_archive(tmp_path / "train.pt2")
    assert caught.value.next_step is not None


def test_a_second_input_is_refused(tmp_path: Path) -> None:
    example = (torch.zeros(2, 16), torch.zeros(2, 16))
    torch.export.save(torch.export.export(TwoInputs(), example), tmp_path / "two.pt2")
    with pytest.raises(UnsupportedModel, match="other inputs"):
        read_archive(tmp_path / "two.pt2")


# -- identity --------------------------------------------------------------------------------


def test_the_digest_ignores_where_and_how_often_a_model_was_exported(
    tiny_pt2: Path, tmp_path: Path
) -> None:
    again = save(TinyDecoder(), TINY.latent_shape, tmp_path / "elsewhere.pt2")
    first, second = read_archive(tiny_pt2), read_archive(again)
    assert first.digest == second.digest

    def forget(model: dict[str, Any]) -> None:
        for node in model["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {}
        model["graph_module"]["graph"]["tensor_values"] = {}
        model["torch_version"] = "2.11.0"

    stripped = read_archive(edit_json(tiny_pt2, tmp_path / "stripped.pt2", MODEL, forget))
    assert stripped.digest == first.digest
    assert stripped.file_sha256 != first.file_sha256


def test_the_digest_sees_one_bit_of_one_weight_and_every_constant(
    tiny_pt2: Path, tmp_path: Path
) -> None:
    first = read_archive(tiny_pt2).digest

    def flip(name: str, old: bytes) -> bytes:
        return bytes([old[0] ^ 1]) + old[1:] if name == "data/weights/weight_0" else old

    assert read_archive(rewrite(tiny_pt2, tmp_path / "bit.pt2", flip)).digest != first

    def steeper(model: dict[str, Any]) -> None:
        for node in model["graph_module"]["graph"]["nodes"]:
            for item in node["inputs"]:
                if item["arg"] == {"as_float": 0.2}:
                    item["arg"] = {"as_float": 0.20001}

    assert read_archive(edit_json(tiny_pt2, tmp_path / "a.pt2", MODEL, steeper)).digest != first


@pytest.mark.filterwarnings("ignore:No complete tensor")
def test_transposed_weights_are_read_in_their_own_order(tmp_path: Path) -> None:
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.arange(32.0).view(16, 2).t().contiguous().t())

        def forward(self, z: Tensor) -> Tensor:
            return (z @ self.w.t()).view(-1, 1, 4, 4)

    archive = read_archive(save(Strided(), (2,), tmp_path / "strided.pt2"))
    assert archive.weights[0].shape == (16, 2)
    assert np.frombuffer(archive.weights[0].content, "<f4").tolist() == list(range(32))


def test_the_2_11_layout_is_the_same_archive(tiny_pt2: Path) -> None:
    """Members that torch 2.11 to 2.13 write; a new one would be refused, so this names them all."""
    with zipfile.ZipFile(tiny_pt2) as archive:
        names = {name.split("/", 1)[1] for name in archive.namelist()}
        version = json.loads(archive.read("tiny/models/model.json"))["schema_version"]
    assert {"archive_format", "archive_version", MODEL, WEIGHTS, SAMPLE} <= names
    assert version["major"] == 8


def test_a_weight_that_claims_more_than_its_storage_holds_is_refused(
    tiny_pt2: Path, tmp_path: Path
) -> None:
    """A stride of 0 would turn four bytes into gigabytes in the process that holds the keys."""

    def blow_up(config: dict[str, Any]) -> None:
        meta = next(iter(config["config"].values()))["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 1 << 31}], [{"as_int": 0}]

    with pytest.raises(MalformedArchive, match="larger than its storage"):
        read_archive(edit_json(tiny_pt2, tmp_path / "blown.pt2", WEIGHTS, blow_up))


def test_a_compressed_pickle_in_the_sample_inputs_is_refused(
    tiny_pt2: Path, tmp_path: Path
) -> None:
    """A few kilobytes of deflated pickle would cost minutes to look through."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as inner:
        inner.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 100_000 + b"N.")

    def change(name: str, content: bytes) -> bytes:
        return buffer.getvalue() if name == SAMPLE else content

    with pytest.raises(HostileArchive, match="not plain tensors"):
        read_archive(rewrite(tiny_pt2, tmp_path / "deflated.pt2", change))
