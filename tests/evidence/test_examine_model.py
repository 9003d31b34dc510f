"""The whole way once with a real archive, a real child process and a real home."""

import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from latentlog.evidence import lookup
from latentlog.evidence.calibrate import calibrate
from latentlog.evidence.examine import Examination, ExaminedModel, Request, examine
from latentlog.evidence.exhibit import Exhibit
from latentlog.evidence.local_record import LocalRecord, log_calibration
from latentlog.evidence.measure import spec_of
from latentlog.evidence.profiles import Point, Profile
from latentlog.inversion.result import GeneratorSpec
from latentlog.inversion.sandbox import ModelProcess, ModelSource
from latentlog.ledger.digest import Digest
from latentlog.ledger.entry import ModelEntry
from latentlog.ledger.epochs import open_epoch
from latentlog.ledger.home import Home, open_log
from latentlog.ledger.keystream import TABLE_DIGEST
from latentlog.ledger.outputs import to_8bit
from latentlog.ledger.recorder import Recorder
from latentlog.ledger.registry import add_model

torch = pytest.importorskip("torch")

DIM, SIDE = 24, 16
SPEC = GeneratorSpec(latent_shape=(DIM,))
NOW = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
SHORT = Profile(
    name="short",
    trials=12,
    beta=0.5,
    foreign=12,
    points=(Point(distortion="png", strength=0.0), Point(distortion="jpeg", strength=90.0)),
)


class World(NamedTuple):
    """A developer's home with eight sealed outputs, and the registered model at work."""

    home: Home
    process: ModelProcess
    pictures: np.ndarray  # type: ignore[type-arg]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("world")
    patch = pytest.MonkeyPatch()
    patch.setattr(lookup, "OVERRUN", 2000)
    source = ModelSource.pt2(_archive(folder / "tiny.pt2"))
    home = Home.create(folder / "home", origin="faces.example/log", clock=lambda: NOW)
    with ModelProcess.start(source, SPEC) as process:
        _register(home, process)
        pictures = _generate(home, process)
        _calibrate(home, source)
        yield World(home, process, pictures)
    patch.undo()


def _archive(path: Path) -> Path:
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Linear(DIM, 64),
        torch.nn.LeakyReLU(0.2),
        torch.nn.Linear(64, 3 * 4 * 4),
        torch.nn.Unflatten(1, (3, 4, 4)),
        torch.nn.Upsample(scale_factor=4, mode="bilinear"),
        torch.nn.Tanh(),
    ).eval()
    for parameter in network.parameters():
        parameter.data *= 1.8
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (torch.zeros(2, DIM),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def _register(home: Home, process: ModelProcess) -> None:
    log = open_log(home, clock=lambda: NOW)
    described = process.description
    add_model(
        log,
        ModelEntry(
            name="tiny",
            digest=Digest.fromhex(described.digest),
            file_sha256=Digest.fromhex(described.file_sha256),
            format="pt2",
            generator_kind="decoder",
            steps=0,
            prior="normal",
            latent_shape=(DIM,),
            output_shape=described.output_shape,
            range=(-1.0, 1.0),
            table=TABLE_DIGEST,
        ),
    )
    log.publish()
    open_epoch(log, home.master_key(), "tiny", lambda n: b"\5" * n, keep=home.keep_recorder_keys)
    log.store.close()


def _generate(home: Home, process: ModelProcess) -> np.ndarray:  # type: ignore[type-arg]
    with Recorder.open("tiny", home=home, block=16, clock=lambda: NOW) as recorder:
        draw = recorder.draw(8)
        images = process.generate(draw.latents)
        recorder.seal(draw, outputs=images)
    return to_8bit(images, -1.0, 1.0).transpose(0, 2, 3, 1)


def _calibrate(home: Home, source: ModelSource) -> None:
    log = open_log(home, clock=lambda: NOW)
    log.publish()
    with LocalRecord.open(home) as record:
        [view] = record.models()
        made = calibrate(
            lambda: ModelProcess.start(source, spec_of(view)),
            view,
            record.control_root(view.digest),
            SHORT,
            jobs=1,
        )
    log_calibration(log, made)
    log.publish()
    log.store.close()


def written(pixels: np.ndarray, form: str = "PNG", **settings: int) -> bytes:  # type: ignore[type-arg]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **settings)
    return file.getvalue()


def run(world: World, content: bytes) -> Examination:
    with LocalRecord.open(world.home, clock=lambda: NOW) as record:
        models = [ExaminedModel(view=v, process=world.process) for v in record.models()]
        medium = Exhibit(name="medium.png", role="medium", content=content)
        return examine(medium, models, record, Request(seed=b"seed"), clock=lambda: NOW)


def test_an_output_is_produced(world: World) -> None:
    found = run(world, written(world.pictures[2]))
    assert (found.finding.outcome, found.finding.reason) == ("produced", "digest_and_replay")
    assert found.finding.entry is not None
    assert found.finding.entry.counter == 2
    assert all(c.ok is not False for c in found.finding.log_checks)


def test_a_compressed_copy_is_produced(world: World) -> None:
    found = run(world, written(world.pictures[5], "JPEG", quality=90))
    assert (found.finding.outcome, found.finding.reason) == ("produced", "latent_and_replay")


def test_another_picture_is_not_produced(world: World) -> None:
    rng = np.random.default_rng(0)
    other = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    for content in (written(other), written(other, "JPEG", quality=92)):
        found = run(world, content)
        assert (found.finding.outcome, found.finding.reason) == (
            "not_produced",
            "nothing_within_envelope",
        )


def test_an_output_made_outside_the_record_is_reachable(world: World) -> None:
    latents = np.random.default_rng(7).standard_normal((1, DIM)).astype(np.float32)
    [picture] = to_8bit(world.process.generate(latents), -1.0, 1.0).transpose(0, 2, 3, 1)
    found = run(world, written(picture))
    assert (found.finding.outcome, found.finding.reason) == (
        "inconclusive",
        "reachable_unregistered",
    )
