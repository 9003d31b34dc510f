"""One dispute, told by the commands a user would type (`latentlog demo`).

Each step is a command line, what it must print and the exit code it must have. A step that differs
is the demo's failure: the demo tests an installation too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PICTURES: Final = 500
ACCUSED: Final = 41
"""The counter of the picture that is accused."""
MODELS: Final = "examples/reference_models"
SCRIPTS: Final = "examples/dispute"
PHOTOGRAPH: Final = "examples/photographs/astronaut.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command line and what must come of it."""

    title: str = ""
    """What a reader should know before; empty where it continues the step before."""
    command: str
    exit: int = 0
    prints: tuple[str, ...] = ()
    """What must stand in its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One accusation: how its medium comes about, and the finding it must end in."""

    name: str
    title: str
    medium: str
    material: str = ""
    """The command that makes the medium."""
    outcome: str
    reason: str
    names: str = ""
    """What the finding must name."""

    @property
    def headline(self) -> str:
        """The first line of the finding."""
        return f"{self.outcome}: {self.reason}"


def cases(folder: str) -> tuple[Case, ...]:
    """The five media that are accused; `folder` as it is typed."""
    picture = f"{folder}/pictures/{ACCUSED:08d}.png"
    return (
        Case(
            name="accused",
            title="3. One of the faces circulates, saved again as JPEG of quality 85.",
            material=f"python {SCRIPTS}/resave.py {picture} {folder}/accused.jpg --quality 85",
            medium=f"{folder}/accused.jpg",
            outcome="PRODUCED",
            reason="latent_and_replay",
            names=f"epoch 0, counter {ACCUSED}",
        ),
        Case(
            name="photograph",
            title="4. A photograph of a person (NASA, public domain) is said to come from it.",
            medium=PHOTOGRAPH,
            outcome="NOT PRODUCED",
            reason="nothing_within_envelope",
        ),
        Case(
            name="sibling",
            title="5. A face comes from a sibling: the same architecture, another training seed.",
            material=f"python {SCRIPTS}/imagine.py {MODELS}/faces-sibling.pt2 {folder}/sibling.png",
            medium=f"{folder}/sibling.png",
            outcome="NOT PRODUCED",
            reason="nothing_within_envelope",
        ),
        Case(
            name="unrecorded",
            title="6. The model made this face outside the record, from its user's own latent.",
            material=f"python {SCRIPTS}/imagine.py {MODELS}/faces.pt2 {folder}/unrecorded.png",
            medium=f"{folder}/unrecorded.png",
            outcome="INCONCLUSIVE",
            reason="reachable_unregistered",
        ),
        Case(
            name="neighbour",
            title="   And this is a neighbour of a registered face: its latent, moved a little.",
            material=(
                f"python {SCRIPTS}/neighbour.py {MODELS}/faces.pt2 {picture} {folder}/neighbour.png"
            ),
            medium=f"{folder}/neighbour.png",
            outcome="INCONCLUSIVE",
            reason="depends_on_entry",
            names=f"epoch 0, counter {ACCUSED}",
        ),
    )


def steps(folder: str) -> list[Step]:
    """The whole story, in order."""
    told = _preparation(folder)
    for case in cases(folder):
        told += _examination(folder, case)
    return told + _verification(folder) + _reports(folder)


def _preparation(folder: str) -> list[Step]:
    return [
        Step(
            title="1. A developer sets up a ledger, registers a model, commits to an epoch's key.",
            command="latentlog init --origin example.com/faces",
            prints=("checkpoint",),
        ),
        Step(
            command=f"latentlog model add faces --generator {MODELS}/faces.pt2 --latent-dim 128",
            prints=("cosine needed",),
        ),
        Step(command="latentlog epoch open faces", prints=("epoch 0 of faces is open",)),
        Step(
            title=f"   {PICTURES} faces are generated, each batch sealed before the next begins.",
            command=f"latentlog generate faces -n {PICTURES} --out {folder}/pictures",
            prints=(f"{PICTURES} pictures",),
        ),
        Step(command="latentlog checkpoint", prints=("example.com/faces",)),
        Step(
            title=(
                "2. The calibration that ships with the model is logged before any dispute: how\n"
                "   many of the model's own pictures an examination would miss, and where."
            ),
            command=f"latentlog calibrate faces --from {MODELS}/faces.calibration.json",
            prints=("beta",),
        ),
        Step(
            title="   Whom to trust: handed to readers by another way than the bundles.",
            command=f"latentlog keys trust > {folder}/trust.toml",
        ),
    ]


def _examination(folder: str, case: Case) -> list[Step]:
    examined = Step(
        title="" if case.material else case.title,
        command=f"latentlog examine {case.medium} --model faces --out {folder}/{case.name}.zip",
        exit=3 if case.outcome == "INCONCLUSIVE" else 0,
        prints=(case.headline, case.names),
    )
    made = [Step(title=case.title, command=case.material)] if case.material else []
    return [*made, examined]


def _verification(folder: str) -> list[Step]:
    title = (
        "7. Each bundle is checked offline, by somebody who has nothing else but the trust file."
    )
    whole = [
        Step(
            title=title if number == 0 else "",
            command=f"latentlog verify {folder}/{case.name}.zip --trust {folder}/trust.toml",
            prints=("VERIFIED", case.headline),
        )
        for number, case in enumerate(cases(folder))
    ]
    return [
        *whole,
        Step(
            title="   One byte of a bundle is changed: it is refused, naming the failed step.",
            command=f"python {SCRIPTS}/change_byte.py {folder}/accused.zip {folder}/changed.zip",
        ),
        Step(
            command=f"latentlog verify {folder}/changed.zip --trust {folder}/trust.toml",
            exit=1,
            prints=("BROKEN: step",),
        ),
    ]


def _reports(folder: str) -> list[Step]:
    title = "8. Each finding as two pages for people."
    return [
        Step(
            title=title if number == 0 else "",
            command=f"latentlog report {folder}/{case.name}.zip -o {folder}/{case.name}.pdf",
            prints=(".pdf",),
        )
        for number, case in enumerate(cases(folder))
    ]
