"""The model's process: what it gives back, what it cannot do, and what the parent makes of its
lies.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from latentlog.inversion.distort import distort
from latentlog.inversion.errors import (
    ChildFailed,
    ChildMisbehaved,
    InversionError,
    UnfaithfulModel,
    UntrustedCode,
)
from latentlog.inversion.forward import read_channel
from latentlog.inversion.generator import require_faithful
from latentlog.inversion.picture import to_8bit
from latentlog.inversion.result import GeneratorSpec, ModelDescription
from latentlog.inversion.sandbox import ModelProcess, ModelSource
from latentlog.inversion.wire import Pipe
from tests.inversion.builders import TINY, TinyDecoder, cosine, save


@pytest.fixture(scope="module")
def tiny(tiny_pt2: Path) -> Iterator[ModelProcess]:
    with ModelProcess.start(ModelSource.pt2(tiny_pt2), TINY) as model:
        yield model


# -- what it gives back ----------------------------------------------------------------------


def test_the_description_names_shape_digest_and_barriers(
    tiny: ModelProcess, tiny_pt2: Path
) -> None:
    description = tiny.description
    assert description.output_shape == (3, 16, 16)
    assert len(description.digest) == 64
    assert description.format == "pt2"
    assert "file-writing" in description.isolation
    assert "memory" in description.isolation


def test_images_are_those_of_the_network(tiny: ModelProcess) -> None:
    latents = np.random.default_rng(0).normal(size=(70, 24)).astype(np.float32)
    with torch.no_grad():
        expected = TinyDecoder()(torch.from_numpy(latents)).numpy()
    assert np.allclose(tiny.generate(latents), expected, atol=1e-5)
    assert tiny.generate(latents[:0]).shape == (0, 3, 16, 16)


def test_a_file_is_inverted_replayed_and_transmitted(tiny: ModelProcess) -> None:
    latents = np.random.default_rng(1).normal(size=(3, 24)).astype(np.float32)
    images = tiny.generate(latents)
    file = distort(
        to_8bit(images[1], -1, 1).transpose(1, 2, 0), {"distortion": "jpeg", "strength": 85}
    )
    observation = read_channel(file, (3, 16, 16)).observe()
    steps: list[dict[str, object]] = []
    (found,) = tiny.invert([observation], on_step=steps.append)
    assert cosine(found.gaussian, latents[1].astype(np.float64)) > 0.95
    assert found.at_floor
    assert found.reconstruction.shape == (3, 16, 16)
    assert steps
    replays = tiny.residuals(images, observation)
    assert min(range(3), key=lambda i: replays[i].global_) == 1
    assert replays[1].global_ < 1.2
    assert replays[1].map.shape == (16, 16)
    pixels = tiny.transmit(images, observation.channel)
    assert pixels.shape == (3, 16, 16, 3)
    assert 0.0 <= pixels.min() <= pixels.max() <= 255.0
    assert tiny.invert([]) == []


def test_a_local_edit_shows_in_the_map(tiny: ModelProcess) -> None:
    latents = np.random.default_rng(2).normal(size=(1, 24)).astype(np.float32)
    images = tiny.generate(latents)
    pixels = to_8bit(images[0], -1, 1).transpose(1, 2, 0)
    pixels[2:6, 9:13] = 255 - pixels[2:6, 9:13]
    observation = read_channel(distort(pixels, {"distortion": "png"}), (3, 16, 16)).observe()
    (replay,) = tiny.residuals(images, observation)
    edited = replay.map[2:6, 9:13].mean()
    replay.map[2:6, 9:13].fill(0.0)
    assert edited > 100 * replay.map.mean()


def test_wrong_shapes_are_refused_here_and_leave_the_child_alive(tiny: ModelProcess) -> None:
    with pytest.raises(InversionError, match="latents"):
        tiny.generate(np.zeros((2, 5), np.float32))
    with pytest.raises(InversionError, match="images"):
        tiny.residuals(
            np.zeros((1, 3, 8, 8), np.float32),
            read_channel(
                distort(np.zeros((16, 16, 3), np.uint8), {"distortion": "png"}), (3, 16, 16)
            ).observe(),
        )
    assert tiny.generate(np.zeros((1, 24), np.float32)).shape == (1, 3, 16, 16)


def test_it_starts_quickly(tiny_pt2: Path) -> None:
    with ModelProcess.start(ModelSource.pt2(tiny_pt2), TINY) as model:
        used = os.times()
        began = time.monotonic()
        model.generate(np.zeros((1, 24), np.float32))
        assert time.monotonic() - began < 5.0
    assert used is not None


def test_the_parent_stays_free_of_torch() -> None:
    code = (
        "import sys; import latentlog.inversion.sandbox, latentlog.inversion.distort;"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- models that do not hold what their entry says --------------------------------------------


def test_a_wrong_latent_shape_is_named(tiny_pt2: Path) -> None:
    with pytest.raises(UnfaithfulModel, match="latent shape") as caught:
        ModelProcess.start(ModelSource.pt2(tiny_pt2), GeneratorSpec(latent_shape=(25,)))
    assert caught.value.next_step is not None


def test_a_static_batch_is_named(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.view(2, 1, 4, 4)

    program = torch.export.export(Fixed(), (torch.zeros(2, 16),))
    torch.export.save(program, tmp_path / "fixed.pt2")
    with pytest.raises(UnfaithfulModel):
        ModelProcess.start(
            ModelSource.pt2(tmp_path / "fixed.pt2"), GeneratorSpec(latent_shape=(16,))
        )


@pytest.mark.parametrize("kind", ["vector", "five channels", "double", "neighbours", "infinite"])
def test_outputs_that_are_no_pictures_are_refused(kind: str) -> None:
    def wrong(z: Tensor) -> Tensor:
        image = z.view(-1, 1, 4, 4)
        return {
            "vector": z,
            "five channels": image.expand(-1, 5, 4, 4),
            "double": image.double(),
            "neighbours": image - z.mean(),
            "infinite": image / 0.0,
        }[kind]

    with pytest.raises(UnfaithfulModel):
        require_faithful(wrong, (16,), torch.device("cpu"))


# -- factories --------------------------------------------------------------------------------

FACTORY = '''
import os, socket
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 16)

    def forward(self, z):
        return torch.tanh(self.layer(z)).view(-1, 1, 4, 4)

def make():
    print("printed text must not reach the conversation")
    return Net()

def attempts(path):
    """Return what a hostile model can do, as bits."""
    done = 0
    try:
        open(path).read(); done |= 1
    except OSError: pass
    try:
        open(path + ".new", "w").write("x"); done |= 2
    except OSError: pass
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect(("127.0.0.1", 9)); done |= 4
    except ConnectionRefusedError: done |= 4
    except OSError: pass
    try:
        done |= 8 if os.system("true") == 0 else 0
    except OSError: pass
    known = ("PATH", "LC_ALL", "LC_CTYPE")
    if any(k not in known and "THREADS" not in k and "MALLOC" not in k for k in os.environ):
        done |= 16
    return done

class Escaping(Net):
    def forward(self, z):
        found = attempts(SECRET)
        return super().forward(z) * 0 + found

def escape():
    return Escaping()
'''


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a factory module, and its weights."""
    hidden = tmp_path / "home"
    hidden.mkdir()
    secret = hidden / "epoch.key"
    secret.write_text("secret")
    code = tmp_path / "code"
    code.mkdir()
    (code / "somebodys_model.py").write_text(FACTORY.replace("SECRET", repr(str(secret))))
    weights = {"layer.weight": torch.ones(16, 6) * 0.1, "layer.bias": torch.zeros(16)}
    save_file(weights, code / "weights.safetensors")
    monkeypatch.chdir(code)
    monkeypatch.setenv("LATENTLOG_TEST_SECRET", "x")
    return code


def test_a_factory_needs_permission(factory: Path) -> None:
    with pytest.raises(UntrustedCode) as caught:
        ModelSource.factory("somebodys_model:make", factory / "weights.safetensors")
    assert caught.value.kind == "usage"
    assert "--trust-code" in str(caught.value.next_step)


def test_a_trusted_factory_runs_and_its_prints_are_swallowed(factory: Path) -> None:
    source = ModelSource.factory(
        "somebodys_model:make", factory / "weights.safetensors", trust_code=True
    )
    with ModelProcess.start(source, GeneratorSpec(latent_shape=(6,))) as model:
        assert model.description.format == "factory"
        assert len(model.description.digest) == 64
        image = model.generate(np.ones((1, 6), np.float32))
        assert np.allclose(image, np.tanh(0.6), atol=1e-5)


@pytest.mark.parametrize("name", ["os.system", "a:b:c", "../x:make", "x:", ":y", "x:1y"])
def test_malformed_factory_names_are_refused(name: str) -> None:
    with pytest.raises(InversionError):
        ModelSource.factory(name, "w", trust_code=True)


def test_code_in_the_child_cannot_read_keys_write_connect_or_start_programs(
    factory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model here *is* hostile Python, the worst case; the answer is what it managed to do."""
    source = ModelSource.factory(
        "somebodys_model:escape", factory / "weights.safetensors", trust_code=True
    )
    with ModelProcess.start(source, GeneratorSpec(latent_shape=(6,))) as model:
        managed = int(model.generate(np.zeros((1, 6), np.float32))[0, 0, 0, 0])
        barriers = model.description.isolation
    assert not managed & 2, "it wrote a file"
    assert not managed & 16, "it saw the parent's environment"
    if "files" in barriers:
        assert not managed & 1, "it read a key"
    if "network" in barriers or "calls" in barriers:
        assert not managed & 4, "it connected"
    if "calls" in barriers:
        assert not managed & 8, "it started a program"


# -- a child that lies ------------------------------------------------------------------------


def liar(script: str) -> ModelProcess:
    """A handle on a process that answers what `script` writes; R() reads one request."""
    prelude = """
import json, os, struct, sys
def R():
    n = struct.unpack(">I", os.read(0, 4))[0]
    h = json.loads(os.read(0, n))
    left = sum({"uint8": 1, "float32": 4}[t] * __import__("math").prod(s) for t, s in h["arrays"])
    while left > 0:
        left -= len(os.read(0, 65536))
    return h
def W(header, body=b""):
    t = header if isinstance(header, bytes) else json.dumps(header).encode()
    os.write(1, struct.pack(">I", len(t)) + t + body)
R()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", prelude + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    pipe = Pipe(
        process.stdout.fileno(),
        process.stdin.fileno(),
        max_header=1 << 20,
        max_bytes=1 << 24,
        patience=10.0,
    )
    handle = ModelProcess(process, pipe)
    handle.description = ModelDescription(
        spec=GeneratorSpec(latent_shape=(2,)),
        output_shape=(1, 2, 2),
        digest="0" * 64,
        file_sha256="0" * 64,
        format="pt2",
    )
    return handle


LIES = {
    "another shape": 'W({"ok": True, "arrays": [["float32", [1, 1, 2, 3]]]}, bytes(24))',
    "an array too many": 'W({"ok": True, "arrays": [["float32", [1, 1, 2, 2]]] * 2}, bytes(32))',
    "another type": 'W({"ok": True, "arrays": [["float64", [1, 1, 2, 2]]]}, bytes(32))',
    "a type numpy would run": 'W({"ok": True, "arrays": [["O", [4]]]}, bytes(32))',
    "a terabyte": 'W({"ok": True, "arrays": [["float32", [1 << 33, 64]]]})',
    "a negative size": 'W({"ok": True, "arrays": [["float32", [-1]]]})',
    "a boolean size": 'W({"ok": True, "arrays": [["float32", [True]]]})',
    "a giant header": 'os.write(1, struct.pack(">I", 1 << 31))',
    "no JSON": 'W(b"\\x80\\x04cos\\nsystem\\n")',
    "nested JSON": 'W(b"[" * 100000)',
    "no arrays": 'W({"ok": True})',
    "not ok": 'W({"arrays": [["float32", [1, 1, 2, 2]]]}, bytes(16))',
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_about_the_answer_are_refused_and_end_the_child(lie: str) -> None:
    with liar(LIES[lie]) as handle, pytest.raises(ChildMisbehaved):
        handle.generate(np.zeros((1, 2), np.float32))


def test_errors_from_the_child_are_only_ours_and_bounded() -> None:
    script = 'W({"error": "SystemExit", "message": "x" * 9999, "got": 7, "arrays": []})'
    with liar(script) as handle, pytest.raises(ChildFailed) as caught:
        handle.generate(np.zeros((1, 2), np.float32))
    assert len(caught.value.message) <= 500
    assert caught.value.got is None


def test_a_child_that_ends_or_hangs_is_reported() -> None:
    with liar("sys.exit(3)") as handle, pytest.raises(ChildFailed, match="ended") as caught:
        handle.generate(np.zeros((1, 2), np.float32))
    assert "3" in str(caught.value.got)
    with liar("import time; time.sleep(60)") as handle:
        handle._pipe.patience = 0.3
        with pytest.raises(ChildFailed, match="answer"):
            handle.generate(np.zeros((1, 2), np.float32))


def test_an_inversion_that_is_not_finite_is_refused() -> None:
    record = {
        "residual": 1.0,
        "at_floor": True,
        "stop": "floor",
        "seconds": 0.1,
        "attempts": [["encoder", 1.0, "floor"]],
    }
    arrays = [["float64", [2]]] * 3 + [["float32", [1, 2, 2]]]
    observation = read_channel(
        distort(np.zeros((2, 2, 1), np.uint8), {"distortion": "png"}), (1, 2, 2)
    ).observe()
    for change, body in (
        ({}, struct.pack("<d", float("nan")) + bytes(40 + 16)),
        ({"residual": "1"}, bytes(64)),
        ({"seconds": None}, bytes(64)),
        ({"attempts": 5}, bytes(64)),
    ):
        answer = {"ok": True, "inversions": [{**record, **change}], "arrays": arrays}
        script = f"W({json.dumps(answer).encode()!r}, {body!r})"
        with liar(script) as handle, pytest.raises(ChildMisbehaved):
            handle.invert([observation])


def test_running_out_of_memory_is_an_error_not_a_crash(tmp_path: Path) -> None:
    class Hungry(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            wide = z[:, :1].expand(-1, 1 << 28).contiguous()
            return (wide.sum(1, keepdim=True) + z).view(-1, 1, 4, 4)

    path = save(Hungry(), (16,), tmp_path / "hungry.pt2")
    with pytest.raises((ChildFailed, UnfaithfulModel)):
        ModelProcess.start(ModelSource.pt2(path), GeneratorSpec(latent_shape=(16,)), memory=1 << 30)
