"""Every error of this package, one tree.

    EvidenceError
    ├── MalformedMeasurements    measurements, rules or a finding do not parse, or clash
    ├── UnreadableExhibit        a file cannot be taken in as an exhibit
    ├── NothingToExamine         no model, no epoch or no key is there to compare with
    ├── CalibrationMissing       a step needs a calibration and there is none
    ├── MalformedCalibration     a calibration document or trial file does not parse
    ├── CalibrationMismatch      it parses, and belongs to another model, pipeline or seed
    ├── MalformedBundle          not a bundle, or not one in the canonical layout
    │   ├── NotABundle · TruncatedBundle · TrailingBytes · BundleComment · Zip64Bundle
    │   ├── CompressedPart · EncryptedPart · DataDescriptor · NotARegularPart · CorruptPart
    │   ├── BadPartName · DuplicatePart · UnsortedParts · NotCanonicalBundle · MissingPart
    │   ├── BundleTooLarge · PartTooLarge · TooManyParts
    │   └── MalformedEnvelope · MalformedManifest · MalformedStatement · MalformedBatch
    ├── BundleTooNew             written under a schema this version does not know
    │   └── UnknownPart · NewerSchema
    ├── BrokenBundle             its own digests, proofs or signatures do not hold
    │   ├── WrongEnvelope · ManifestDisagrees · WrongSubject · WrongEntry · NotCited
    │   └── WrongNumber · WrongDecision · WrongLog
    ├── MalformedTrust           a trust file does not parse
    ├── UnreadableFile           a file that was named cannot be read
    ├── BundleExists             something already stands where a bundle should be written
    ├── CannotWrite              the disk refused the bundle
    ├── UntrustedSigner          signed by nobody the policy names
    ├── MissingExtra             an optional part of the installation is needed
    └── ReportFailed             the document could not be set or written

`kind` decides the exit code at the command line; nothing here prints or exits.
"""

from typing import ClassVar


class EvidenceError(Exception):
    """Say what went wrong, what was expected, what was found, and what to type next."""

    kind: ClassVar[str] = "input"

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.got = got
        self.next_step = next_step


class MalformedMeasurements(EvidenceError):
    """Measurements, rules or a finding that do not parse, or contradict themselves."""


class UnreadableExhibit(EvidenceError):
    """A file that cannot be taken in as an exhibit."""


class NothingToExamine(EvidenceError):
    """No model, no epoch or no disclosed key to compare a medium with."""

    kind = "usage"


class CalibrationMissing(EvidenceError):
    """A step needs a calibration of this model and there is none."""

    kind = "usage"


class MalformedCalibration(EvidenceError):
    """A calibration document or trial file that does not parse."""


class CalibrationMismatch(EvidenceError):
    """A calibration of another model, pipeline, profile or seed."""

    kind = "integrity"


class MalformedBundle(EvidenceError):
    """Not a bundle, or not one in the canonical layout."""


class BundleTooNew(EvidenceError):
    """A bundle written under a schema this version does not know."""


class BrokenBundle(EvidenceError):
    """A bundle whose own digests, proofs or signatures do not hold."""

    kind = "integrity"


class UntrustedSigner(EvidenceError):
    """A sound signature by a key that the policy does not name."""

    kind = "untrusted"


class MissingExtra(EvidenceError):
    """An optional part of the installation is needed for this step."""

    kind = "environment"


class ReportFailed(EvidenceError):
    """The report could not be set or written."""

    kind = "environment"


class NotABundle(MalformedBundle):
    """Another kind of file."""


class TruncatedBundle(MalformedBundle):
    """A bundle that ends early."""


class TrailingBytes(MalformedBundle):
    """Bytes after the end of a bundle."""


class BundleComment(MalformedBundle):
    """A zip comment, which no signature covers."""


class Zip64Bundle(MalformedBundle):
    """A zip64 record, a second place to state sizes."""


class CompressedPart(MalformedBundle):
    """A compressed part, which could expand without bound."""


class EncryptedPart(MalformedBundle):
    """An encrypted part."""


class DataDescriptor(MalformedBundle):
    """A part that states its size after its content."""


class NotARegularPart(MalformedBundle):
    """A symbolic link, device, pipe or folder in the place of a file."""


class BadPartName(MalformedBundle):
    """A part name that could leave the folder, hide, or differ between systems."""


class DuplicatePart(MalformedBundle):
    """One name twice, so that two readers see two contents."""


class UnsortedParts(MalformedBundle):
    """Parts out of order."""


class NotCanonicalBundle(MalformedBundle):
    """A zip that encoding its parts again would write differently."""


class MissingPart(MalformedBundle):
    """A part that every bundle has, or that another part cites."""


class BundleTooLarge(MalformedBundle):
    """More bytes than a bundle may have."""


class PartTooLarge(MalformedBundle):
    """More bytes than this part may have."""


class TooManyParts(MalformedBundle):
    """More parts than a bundle may have."""


class MalformedEnvelope(MalformedBundle):
    """Not a DSSE envelope in canonical form."""


class MalformedManifest(MalformedBundle):
    """Not a manifest."""


class MalformedStatement(MalformedBundle):
    """Not a finding statement."""


class MalformedBatch(MalformedBundle):
    """Not a path from an entry to its seal."""


class CorruptPart(MalformedBundle):
    """A part whose content is not what its own checksum says."""

    kind = "integrity"


class UnknownPart(BundleTooNew):
    """A part that this version would show unchecked."""


class NewerSchema(BundleTooNew):
    """A statement or manifest of another version."""


class WrongEnvelope(BrokenBundle):
    """An envelope of another kind, key or signature than it should be."""


class ManifestDisagrees(BrokenBundle):
    """A part that was added, removed or changed after signing."""


class WrongSubject(BrokenBundle):
    """The examined file is not the one the statement is about."""


class WrongLog(BrokenBundle):
    """A checkpoint that is not the one the statement names."""


class WrongEntry(BrokenBundle):
    """A cited entry that is not what the statement says it is."""


class NotCited(BrokenBundle):
    """A fact of the statement that no cited entry supports."""


class WrongNumber(BrokenBundle):
    """A probability that does not follow from the measurements."""


class WrongDecision(BrokenBundle):
    """A finding that the rules do not draw from the measurements."""


class MalformedTrust(EvidenceError):
    """A trust file that does not parse, or contradicts itself."""


class UnreadableFile(EvidenceError):
    """A file that was named cannot be read."""


class BundleExists(EvidenceError):
    """Something already stands where a bundle should be written."""

    kind = "usage"


class CannotWrite(EvidenceError):
    """The disk refused the bundle; what stood there before still does."""

    kind = "environment"
