"""The parent's handle to the process a model runs in. Torch-free; trusts nothing that comes back.

    with ModelProcess.start(ModelSource.pt2("faces.pt2"), spec) as model:
        images = model.generate(latents)
        found = model.invert([observed.observe()], InversionPlan())

The child gets a scrubbed environment, no descriptor but its two pipes, resource limits, and no
network where the kernel allows (`isolation.py`). Its answers are arrays of exactly the expected
shapes, or they are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from latentlog.inversion import errors
from latentlog.inversion.archive import Archive, read_archive
from latentlog.inversion.errors import (
    ChildFailed,
    ChildMisbehaved,
    InversionError,
    MissingExtra,
    UntrustedCode,
)
from latentlog.inversion.forward import Channel
from latentlog.inversion.result import (
    Attempt,
    FloatImage,
    GeneratorSpec,
    Inversion,
    InversionPlan,
    ModelDescription,
    Observation,
    Residual,
)
from latentlog.inversion.wire import Pipe

REPLY_HEADER: Final = 1 << 20
REPLY_HEADER_EACH: Final = 4096
"""Bytes of JSON an answer may have, and the further ones per array in it."""
MAX_OUTPUT_SIDE: Final = 4096
STEP_COUNTS: Final = ("round", "row", "rows", "at_floor", "pictures")
"""What a progress message may hold, all integers."""
MAX_STEPS: Final = 1_000_000
"""Progress messages within one answer; an endless stream of them is no progress."""
MEMORY: Final = 8 << 30
"""Bytes a model's process may allocate unless told otherwise."""
START_PATIENCE: Final = 120.0
PATIENCE: Final = 900.0
"""Seconds of silence before a model's process counts as hung; an inversion reports each step."""
OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where a model comes from: an archive, or somebody's Python with weights."""

    format: Literal["pt2", "factory"]
    path: Path
    factory_name: str = ""
    trust_code: bool = False

    @staticmethod
    def pt2(path: str | Path) -> ModelSource:
        """Name a `.pt2` archive."""
        return ModelSource(format="pt2", path=Path(path))

    @staticmethod
    def factory(name: str, weights: str | Path, *, trust_code: bool = False) -> ModelSource:
        """Name `module:function` and its safetensors; raises UntrustedCode without `trust_code`."""
        module, colon, function = name.partition(":")
        if not (
            colon and function.isidentifier() and all(p.isidentifier() for p in module.split("."))
        ):
            raise InversionError("malformed factory name", expected="module:function", got=name)
        source = ModelSource(
            format="factory", path=Path(weights), factory_name=name, trust_code=trust_code
        )
        source.require_trust()
        return source

    def require_trust(self) -> None:
        """Raise UntrustedCode when loading would run Python that nobody vouched for."""
        if self.format == "factory" and not self.trust_code:
            raise UntrustedCode(
                "a factory runs its author's Python",
                next_step="pass --trust-code if you trust it, or ask for a .pt2 archive",
            )


class ModelProcess:
    """A running child with one loaded model. Use as a context manager; calls raise
    InversionError.
    """

    description: ModelDescription

    def __init__(self, process: subprocess.Popen[bytes], pipe: Pipe) -> None:
        """Wrap a started child; `ModelProcess.start` is the way to one."""
        self._process = process
        self._pipe = pipe

    @staticmethod
    def start(
        source: ModelSource,
        spec: GeneratorSpec,
        *,
        device: str = "cpu",
        threads: int = 1,
        memory: int = MEMORY,
    ) -> ModelProcess:
        """Read the model strictly, start a child, load the model there and try it out.

        A device other than the CPU lifts the limits on memory and files that its driver needs.
        """
        source.require_trust()
        archive = read_archive(source.path) if source.format == "pt2" else None
        process = _spawn(source, memory if device == "cpu" else 0, threads)
        assert process.stdin is not None
        assert process.stdout is not None
        pipe = Pipe(
            process.stdout.fileno(),
            process.stdin.fileno(),
            max_header=REPLY_HEADER,
            max_bytes=0,
            patience=START_PATIENCE,
        )
        handle = ModelProcess(process, pipe)
        try:
            handle.description = handle._load(source, archive, spec, device)
        except BaseException:
            handle.close()
            raise
        pipe.patience = PATIENCE
        return handle

    def __enter__(self) -> ModelProcess:
        """Return the handle itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the child."""
        self.close()

    def close(self) -> None:
        """Stop the child at once; it holds nothing worth saving."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # It leads a group of its own, which nothing it started can leave.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    # -- requests ----------------------------------------------------------------------------------

    def generate(self, latents: npt.NDArray[np.float32]) -> FloatImage:
        """Return the images (B, C, H, W) of latents (B, *latent), in the model's range."""
        rows = np.asarray(latents, dtype=np.float32)
        shape = self.description.spec.latent_shape
        if rows.shape[1:] != shape:
            raise InversionError(
                "latents of the wrong shape", expected=f"(B, {shape})", got=str(rows.shape)
            )
        images: FloatImage
        _, (images,) = self._ask(
            {"op": "generate"}, [rows], [("float32", (len(rows), *self.description.output_shape))]
        )
        return images

    def transmit(self, images: FloatImage, channel: Channel) -> npt.NDArray[np.float32]:
        """Return the pixels (B, H', W', C'), 0 to 255 unrounded, that `channel` makes of model
        images.
        """
        batch = self._images(images)
        channels = 1 if channel.gray else batch.shape[1]
        pixels: FloatImage
        _, (pixels,) = self._ask(
            {"op": "transmit", "channel": channel.to_json()},
            [batch],
            [("float32", (len(batch), *channel.size, channels))],
        )
        return pixels

    def residuals(self, images: FloatImage, observation: Observation) -> list[Residual]:
        """Measure how well each model image explains the file, as a whole and place by place."""
        batch = self._images(images)
        header = {"op": "residuals", "observation": _observation_json(observation)}
        reply, (maps,) = self._ask(
            header,
            [batch, *_observation_arrays(observation)],
            [("float32", (len(batch), *self.description.output_shape[1:]))],
        )
        values = _listed(reply, "global", len(batch))
        return [
            Residual(global_=_finite(value), map=field)
            for value, field in zip(values, maps, strict=True)
        ]

    def invert(
        self,
        observations: Sequence[Observation],
        plan: InversionPlan | None = None,
        *,
        on_step: OnStep | None = None,
    ) -> list[Inversion]:
        """Recover the latent of every observation; batched, deterministic for a given plan."""
        if not observations:
            return []
        dim = self.description.spec.dim
        header = {
            "op": "invert",
            "observations": [_observation_json(o) for o in observations],
            "plan": asdict(plan or InversionPlan()),
        }
        vector = ("float64", (dim,))
        expected = [vector, vector, vector, ("float32", self.description.output_shape)]
        reply, arrays = self._ask(
            header,
            [a for o in observations for a in _observation_arrays(o)],
            expected * len(observations),
            on_step,
        )
        records = _listed(reply, "inversions", len(observations))
        return [
            _inversion(record, arrays[4 * i : 4 * i + 4], observation)
            for i, (record, observation) in enumerate(zip(records, observations, strict=True))
        ]

    # -- the conversation --------------------------------------------------------------------------

    def _load(
        self, source: ModelSource, archive: Archive | None, spec: GeneratorSpec, device: str
    ) -> ModelDescription:
        header: dict[str, Any] = {
            "op": "load",
            "format": source.format,
            "spec": asdict(spec),
            "device": device,
        }
        if archive is not None:
            header["program"] = archive.program.to_json()
            header["weights"] = [[w.name, w.dtype, list(w.shape)] for w in archive.weights]
            payload: list[bytes] = [w.content for w in archive.weights]
            file_sha256 = archive.file_sha256
        else:
            header["factory"] = source.factory_name
            payload = [_read_weights(source.path)]
            file_sha256 = hashlib.sha256(payload[0]).hexdigest()
        reply, _ = self._ask(header, payload, [])
        shape = _shape(reply.get("shape"))
        return ModelDescription(
            spec=spec,
            output_shape=shape,
            digest=archive.digest if archive else _hex_digest(reply.get("digest")),
            file_sha256=file_sha256,
            format=source.format,
            isolation=tuple(str(word)[:40] for word in _listed(reply, "isolation", None)[:20]),
        )

    def _ask(
        self,
        header: dict[str, Any],
        arrays: Sequence[Any],
        expected: Sequence[tuple[str, tuple[int, ...]]],
        on_step: OnStep | None = None,
    ) -> tuple[dict[str, Any], list[Any]]:
        """Send one request and return its answer, whose arrays have exactly the expected shapes."""
        limit = sum(np.dtype(t).itemsize * math.prod(shape) for t, shape in expected)
        self._pipe.max_header = REPLY_HEADER + REPLY_HEADER_EACH * len(expected)
        try:
            self._pipe.send(header, arrays)
            reply, results = self._pipe.receive(limit)
            for _ in range(MAX_STEPS):
                if "step" not in reply or results:
                    break
                if on_step is not None:
                    on_step(_progress(reply["step"]))
                reply, results = self._pipe.receive(limit)
        except ChildMisbehaved:
            self.close()
            raise
        except ChildFailed as error:
            raise self._explain(error) from error
        if "error" in reply:
            raise _child_error(reply)
        got = [(a.dtype.name, a.shape) for a in results]
        if reply.get("ok") is not True or got != [(t, tuple(s)) for t, s in expected]:
            self.close()
            raise ChildMisbehaved("an answer of the wrong shape", got=str(got)[:200])
        return reply, results

    def _explain(self, error: ChildFailed) -> ChildFailed:
        """Say why the child is gone, when its exit status knows more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(timeout=1.0)
            return ChildFailed(
                "the model's process ended",
                got=f"exit status {status}",
                next_step="the model may need more memory than it was given",
            )
        self.close()
        return error

    def _images(self, images: FloatImage) -> FloatImage:
        batch = np.asarray(images, dtype=np.float32)
        if batch.shape[1:] != self.description.output_shape:
            raise InversionError(
                "images of the wrong shape",
                expected=f"(B, {self.description.output_shape})",
                got=str(batch.shape),
            )
        return batch


# -- starting --------------------------------------------------------------------------------------

_BOOT: Final = (
    "import sys, json; start = json.loads(sys.argv[1]); sys.path[:] = start['path'];"
    " from latentlog.inversion.child import main;"
    " main(start['memory'], start['threads'], start['readable'])"
)


def _spawn(source: ModelSource, memory: int, threads: int) -> subprocess.Popen[bytes]:
    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("torch is not installed", next_step='pip install "latentlog[examine]"')
    paths = [os.path.abspath(p) for p in sys.path if p]
    readable = _readable(paths)
    if source.format == "factory":
        paths.append(os.getcwd())
        readable.append(os.getcwd())
    start = {"path": paths, "memory": memory, "threads": threads, "readable": readable}
    count = str(threads)
    environment = {
        "PATH": "/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        # The search takes and frees the same large buffers thousands of times; without these two,
        # glibc hands them back each time and the kernel zeroes them anew: half the run.
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    }
    return subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", _BOOT, json.dumps(start)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        close_fds=True,
        start_new_session=True,
        bufsize=0,
    )


def _readable(paths: Sequence[str]) -> list[str]:
    """List the folders that Python, torch and this package are made of."""
    files = (
        getattr(module, "__file__", None)
        for name, module in sys.modules.items()
        if name.split(".")[0] == "latentlog"
    )
    own = {os.path.dirname(os.path.abspath(file)) for file in files if file}
    roots = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__)}
    installed = {p for p in paths if "-packages" in p}
    return sorted({os.path.realpath(p) for p in own | roots | installed})


def _read_weights(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InversionError("cannot read the weights", got=f"{path}: {error.strerror}") from error


# -- reading answers -------------------------------------------------------------------------------


def _observation_json(observation: Observation) -> dict[str, Any]:
    return {
        "channel": observation.channel.to_json(),
        "planes": len(observation.coefficients or ()),
    }


def _observation_arrays(observation: Observation) -> list[Any]:
    return [observation.pixels, *(observation.coefficients or ())]


def _child_error(reply: dict[str, Any]) -> InversionError:
    kind = getattr(errors, str(reply.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, InversionError)):
        kind = ChildFailed
    texts = {
        key: value[:500] if isinstance(value := reply.get(key), str) else None
        for key in ("expected", "got", "next_step")
    }
    return kind(str(reply.get("message"))[:500], **texts)


def _listed(reply: dict[str, Any], key: str, length: int | None) -> list[Any]:
    value = reply.get(key)
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ChildMisbehaved("malformed answer", expected=f"a list of {key}")
    return value


def _progress(step: Any) -> dict[str, Any]:
    """Keep the counts of a progress message; nothing else in it is meant for anyone."""
    counts = step.items() if isinstance(step, dict) else ()
    return {name: step for name, step in counts if name in STEP_COUNTS and type(step) is int}


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ChildMisbehaved("malformed answer", expected="a finite number", got=str(value)[:50])
    return float(value)


def _shape(value: Any) -> tuple[int, int, int]:
    if not (isinstance(value, list) and len(value) == 3 and all(type(n) is int for n in value)):
        raise ChildMisbehaved("malformed answer", expected="an output shape")
    channels, height, width = value
    if channels not in (1, 3) or not (
        1 <= min(height, width) <= max(height, width) <= MAX_OUTPUT_SIDE
    ):
        raise ChildMisbehaved("impossible output shape", got=str(value)[:50])
    return channels, height, width


def _hex_digest(value: Any) -> str:
    if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
        raise ChildMisbehaved("malformed answer", expected="a model digest")
    return value


def _inversion(record: Any, arrays: list[Any], observation: Observation) -> Inversion:
    if not isinstance(record, dict):
        raise ChildMisbehaved("malformed answer", expected="an inversion")
    latent, gaussian, sd, reconstruction = arrays
    if not all(np.isfinite(a).all() for a in (latent, gaussian, sd, reconstruction)):
        raise ChildMisbehaved("an inversion that is not finite")
    return Inversion(
        latent=latent,
        gaussian=gaussian,
        sd=sd,
        residual=_finite(record.get("residual")),
        at_floor=record.get("at_floor") is True,
        stop=str(record.get("stop"))[:40],
        reconstruction=reconstruction,
        channel=observation.channel,
        seconds=_finite(record.get("seconds")),
        attempts=tuple(
            Attempt(start=str(a[0])[:40], residual=_finite(a[1]), stop=str(a[2])[:40])
            for a in _listed(record, "attempts", None)[:1000]
            if isinstance(a, list) and len(a) == 3
        ),
    )
