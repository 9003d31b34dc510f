"""Values of the ledger as people and JSON read them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentlog.ledger.checkpoint import VerifiedCheckpoint
    from latentlog.ledger.entry import ModelEntry
    from latentlog.ledger.epochs import EpochState


def model_document(index: int, model: ModelEntry) -> dict[str, Any]:
    """A model's entry as JSON, numbers as numbers."""
    lo, hi = model.range
    return {
        "name": model.name,
        "entry": index,
        "digest": model.digest.hex(),
        "file_sha256": model.file_sha256.hex(),
        "format": model.format,
        "kind": model.generator_kind,
        "steps": model.steps,
        "prior": model.prior,
        "latent_shape": list(model.latent_shape),
        "output_shape": list(model.output_shape),
        "range": [lo, hi],
    }


def epoch_document(state: EpochState) -> dict[str, Any]:
    """An epoch as JSON."""
    return {
        "epoch": state.epoch,
        "model": state.model,
        "entry": state.open_index,
        "state": "open" if state.open else "closed",
        "reserved": state.high_water,
        "opened": f"{state.opened:%Y-%m-%dT%H:%M:%SZ}",
        "commitment": state.commitment.hex(),
    }


def checkpoint_document(verified: VerifiedCheckpoint) -> dict[str, Any]:
    """A checkpoint as JSON, its note included."""
    checkpoint = verified.checkpoint
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "note": verified.note.decode(),
    }


def body_document(body: bytes) -> dict[str, Any]:
    """An entry's own JSON."""
    document: dict[str, Any] = json.loads(body)
    return document


def without_password(url: str) -> str:
    """A database URL that may be shown."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)
