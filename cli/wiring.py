"""The composition root: the only place that opens homes, logs and model processes for the commands.

Layers are imported inside the functions, so that a command pays only for what it uses.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from latentlog.cli.errors import UnknownName, missing_extra
from latentlog.cli.files import write_output
from latentlog.cli.options import Invocation

if TYPE_CHECKING:
    from latentlog.evidence.local_record import LocalRecord
    from latentlog.evidence.record import ModelView
    from latentlog.inversion.result import GeneratorSpec
    from latentlog.inversion.sandbox import ModelProcess, ModelSource
    from latentlog.ledger.entry import ModelEntry
    from latentlog.ledger.home import Home
    from latentlog.ledger.log import Log


@dataclass(frozen=True, slots=True)
class Ledger:
    """An opened home with its log."""

    home: Home
    log: Log


def open_home(invocation: Invocation) -> Home:
    """Open the home that flag, environment or default name; raises `HomeMissing`."""
    from latentlog.ledger.home import Home

    settings = invocation.settings
    return Home.open(settings.home, database=settings.db)


@contextmanager
def open_ledger(invocation: Invocation) -> Iterator[Ledger]:
    """Open home and log; the database is closed again at the end."""
    from latentlog.ledger.home import open_log

    home = open_home(invocation)
    log = open_log(home)
    try:
        yield Ledger(home, log)
    finally:
        log.store.close()


def open_record(ledger: Ledger) -> LocalRecord:
    """Open the log as an examination sees it: up to its newest checkpoint, with the home's keys."""
    from latentlog.evidence.local_record import LocalRecord

    return LocalRecord.open(ledger.home)


def view_of(record: LocalRecord, name: str) -> ModelView:
    """Return a model as the record shows it; raises `UnknownName`, naming those there are."""
    known = {view.name: view for view in record.models()}
    if name not in known:
        raise unknown_model(name, known)
    return known[name]


def require_extra(*modules: str) -> None:
    """Raise `MissingExtra` for the first of `modules` that is not installed."""
    for module in modules:
        if find_spec(module) is None:
            raise missing_extra(module)


def find_model(ledger: Ledger, name: str) -> ModelEntry:
    """Return the registered model of this name; raises `UnknownName`, naming those there are."""
    from latentlog.ledger.registry import models

    known = {entry.name: entry for _, entry in models(ledger.log)}
    if name not in known:
        raise unknown_model(name, known)
    return known[name]


def unknown_model(name: str, known: Collection[str]) -> UnknownName:
    """Say which models there are instead."""
    return UnknownName(
        f"no model is called {name!r}",
        expected=", ".join(known) or "a registered model; there is none yet",
        next_step=f"latentlog model add {name} --generator FILE.pt2 …" if not known else None,
    )


def require_new_name(ledger: Ledger, name: str) -> None:
    """Raise `AlreadyRegistered` or `MalformedEntry` before a model is tried out and copied."""
    from latentlog.ledger.codec import require_name
    from latentlog.ledger.errors import AlreadyRegistered
    from latentlog.ledger.registry import models

    require_name(name)
    for index, entry in models(ledger.log):
        if entry.name == name:
            raise AlreadyRegistered(
                f"a model called {name!r} is registered already, as entry {index}",
                next_step="register it under another name",
            )


def spec_of(model: ModelEntry) -> GeneratorSpec:
    """Say to inversion what the model's entry says."""
    from latentlog.inversion.result import GeneratorSpec

    lo, hi = model.range
    return GeneratorSpec(
        latent_shape=model.latent_shape,
        prior="uniform" if model.prior == "uniform" else "normal",
        lo=lo,
        hi=hi,
        kind=model.generator_kind,
        steps=model.steps,
    )


def source_of(home: Home, model: ModelEntry, *, trust_code: bool) -> ModelSource:
    """Find the model's own file in the home."""
    from latentlog.inversion.sandbox import ModelSource

    if model.format == "pt2":
        return ModelSource.pt2(home.model_path(model.digest, ".pt2"))
    card = json.loads(home.model_path(model.digest, ".json").read_text(encoding="utf-8"))
    weights = home.model_path(model.digest, ".safetensors")
    return ModelSource.factory(card["factory"], weights, trust_code=trust_code)


@contextmanager
def start_model(
    ledger: Ledger, model: ModelEntry, *, trust_code: bool = False
) -> Iterator[ModelProcess]:
    """Start the model in its own process and hold what was loaded against its entry."""
    from latentlog.inversion.errors import UnfaithfulModel
    from latentlog.inversion.sandbox import ModelProcess

    require_extra("torch")
    source = source_of(ledger.home, model, trust_code=trust_code)
    with ModelProcess.start(source, spec_of(model)) as process:
        if process.description.digest != model.digest.hex():
            raise UnfaithfulModel(
                f"the file kept for {model.name} is another model",
                expected=model.digest.hex(),
                got=process.description.digest,
                next_step="restore the model's file in the home's models folder",
            )
        yield process


def keep_model(home: Home, source: ModelSource, digest_hex: str) -> Path:
    """Copy a model's file into the home under its digest, whole or not at all."""
    from latentlog.ledger.digest import Digest

    digest = Digest.fromhex(digest_hex)
    if source.format == "factory":
        card = json.dumps({"factory": source.factory_name}) + "\n"
        _keep(home.model_path(digest, ".json"), card.encode())
    target = home.model_path(digest, ".pt2" if source.format == "pt2" else ".safetensors")
    _keep(target, source.path.read_bytes())
    return target


def _keep(target: Path, content: bytes) -> None:
    # The same model registered before, or an interrupted registration: the digest says which bytes.
    if not (target.exists() and target.read_bytes() == content):
        target.unlink(missing_ok=True)
        write_output(target, content, mode=0o600)
