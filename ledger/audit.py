"""The audit: recompute the whole log from its rows and say which of them does not hold.

    (1) every row: contiguous, its leaf hash, its decoding, the columns beside its body
    (2) every batch: a seal by a key that may give it, over exactly these entries
    (3) the tree: completed tiles, every stored checkpoint, the head row
    (4) every counter of every epoch, by the rule of protocol section 2
    (5) with epoch keys: the key commitments, and the latent of every generation
    (6) with the vault: every opening against its entry, and erasures that were not completed

Rows are read a page at a time and in order, so memory does not grow with the log; entries appended
meanwhile are left to the next audit. The rows are not believed, the checkpoint's signer is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from latentlog.ledger.audit_counters import audit_counters
from latentlog.ledger.audit_rows import RowAudit
from latentlog.ledger.errors import AuditFailed
from latentlog.ledger.keystream import EpochKey
from latentlog.ledger.log import Log
from latentlog.ledger.problems import Problem, Problems
from latentlog.ledger.storage import Vault

Progress = Callable[[int, int], None]

_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was recomputed and what did not hold, causes before what follows from them."""

    entries: int
    seals: int
    checkpoints: int
    epochs: int
    openings: int
    documents: int = 0
    """How many documents entries name by digest, checked or not."""
    problems: list[Problem] = field(default_factory=list)
    problems_found: int = 0

    def require_clean(self) -> None:
        """Return only if everything held; raises `AuditFailed` naming the first bad row."""
        if self.problems:
            first = self.problems[0]
            raise AuditFailed(
                f"entry {first.index}: {first.message}",
                expected="a log that recomputes",
                got=f"{self.problems_found} problems, the first: {first.code}",
                next_step=f"latentlog show {first.index}",
            )


def audit(
    log: Log,
    *,
    epoch_keys: Mapping[int, EpochKey] | None = None,
    vault: Vault | None = None,
    documents: bool = True,
    on_progress: Progress | None = None,
) -> AuditReport:
    """Recompute the log; `on_progress(done, total)` is called after every page.

    With `epoch_keys` the latents of these epochs are derived again; with `vault` openings are
    opened; without `documents` those that entries name are counted only. Raises nothing for what
    it finds wrong: see `AuditReport.require_clean`.
    """
    problems = Problems()
    rows = RowAudit(log, problems, epoch_keys or {}, vault, documents=documents)
    size = rows.begin()
    while rows.at < size:
        rows.step(_PAGE)
        if on_progress is not None:
            on_progress(min(rows.at, size), size)
    rows.end()
    for epoch in rows.epochs:
        audit_counters(log, problems, epoch, rows.epochs[epoch], size)
    return AuditReport(
        entries=rows.at,
        seals=rows.seals,
        checkpoints=rows.checkpoints,
        epochs=len(rows.epochs),
        openings=rows.openings,
        documents=rows.documents,
        problems=sorted(problems.found, key=lambda problem: problem.rank),
        problems_found=problems.count,
    )
