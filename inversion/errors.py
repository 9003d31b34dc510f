"""The errors of inversion.

InversionError
├── UnreadablePicture        the picture cannot be decoded, or not without guessing
│   ├── PictureTooLarge      it claims more pixels than anyone here examines
│   └── UnsupportedPicture   it decodes to what cannot be used (CMYK, alpha, animation)
├── WrongFormat              the picture cannot be an output of this model, whatever its content
├── MalformedArchive         the model file is not a `.pt2` of the kind accepted here
│   ├── HostileArchive       it holds what would run code in a less careful reader
│   └── UnsupportedModel     it is well formed, but no generator that can be examined
├── UntrustedCode            a factory was named without permission to run its code
├── UnfaithfulModel          the loaded model does not do what its entry says
├── ChildFailed              the model's process ended, hung, or ran out of memory
├── ChildMisbehaved          the model's process answered what no honest one would
└── MissingExtra             torch or another optional dependency is not installed
"""

from __future__ import annotations

from typing import ClassVar


class InversionError(Exception):
    """Anything that stops an inversion; carries what a person needs to go on."""

    kind: ClassVar[str] = "input"
    """usage | input | integrity | environment | untrusted: what `cli/app.py` makes the exit code
    of.
    """

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        next_step: str | None = None,
    ) -> None:
        """Keep the message, what was expected, what came, and what to do next."""
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = got
        self.next_step = next_step


class UnreadablePicture(InversionError):
    """The bytes are not a picture that can be decoded without guessing."""


class PictureTooLarge(UnreadablePicture):
    """The picture claims more pixels or bytes than the bound; nothing of it was decoded."""


class UnsupportedPicture(UnreadablePicture):
    """The picture decodes, but into something with no single 8-bit gray or RGB reading."""


class WrongFormat(InversionError):
    """The picture's size or colours rule out that the model made it within the known
    transformations.
    """


class MalformedArchive(InversionError):
    """The model file is not a `.pt2` archive of the accepted form."""


class HostileArchive(MalformedArchive):
    """The model file holds a payload that would run code in a reader that trusted it."""


class UnsupportedModel(MalformedArchive):
    """The archive is well formed, but its program is not a generator that can be examined."""


class UntrustedCode(InversionError):
    """Loading this model would run its author's Python, and nobody allowed that."""

    kind = "usage"


class UnfaithfulModel(InversionError):
    """The loaded model contradicts its description: shapes, range, or repeatability."""


class ChildFailed(InversionError):
    """The process that runs the model ended, hung, or ran out of memory."""

    kind = "environment"


class ChildMisbehaved(InversionError):
    """The process that runs the model sent what no honest one sends; it was stopped."""


class MissingExtra(InversionError):
    """An optional dependency is not installed."""

    kind = "environment"
