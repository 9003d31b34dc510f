"""The sentences of a finding. The two verdicts are protocol.md section 6 word for word.

Nothing here decides anything. No sentence says "match" or "proves", gives the probability of a
proposition, or names a product.
"""

from typing import Final

PRODUCED: Final = (
    "The medium is {output}, or a copy that cannot be told apart at this medium's quality. "
    "This does not say who copied, altered or circulated it."
)
NOT_PRODUCED: Final = (
    "The medium is not an output of the registered epochs of {models}, as such or transformed "
    "within the envelope."
)
NO_RANGE: Final = (
    "For this kind of model nothing can be measured about whether it could have made the medium "
    "outside the record. "
)
COVERS: Final = "This covers the model with digest {digests} and the logs examined here only."

REASONS: Final[dict[str, str]] = {
    "digest_and_replay": (
        "A digest sealed for it equals the medium's, and its latent, derived again from the "
        "disclosed epoch key, regenerates the medium within the calibrated tolerance."
    ),
    "latent_and_replay": (
        "The latent recovered from the medium lies closer to that output's latent than "
        "coincidence allows, and that latent, derived again from the disclosed epoch key, "
        "regenerates the medium within the calibrated tolerance."
    ),
    "nothing_within_envelope": (
        "No latent of the record is close to the one recovered from the medium, no sealed digest "
        "equals the medium's, and no regenerated output fits it."
    ),
    "grey_zone": (
        "The closest latent of the record, that of {entry}, is nearer than expected by chance and "
        "not near enough to exclude chance under the rule."
    ),
    "depends_on_entry": (
        "The medium depends on {entry}, and that entry's regenerated output was not found to fit "
        "it: it may be derived from that output, forged against it, or made from its latent "
        "outside the record."
    ),
    "altered_region": (
        "Taken as a whole the medium fits the regenerated output of {entry}; a region of it does "
        "not. The map shows where."
    ),
    "reachable_unregistered": (
        "The model can make this picture and no entry of the record accounts for it: it may have "
        "been made outside the record, by the developer or by a holder of the weights."
    ),
    "replay_only": (
        "The regenerated output of {entry} fits the medium, and neither the recovered latent nor a "
        "usable sealed digest points to that entry."
    ),
    "digest_without_replay": (
        "A sealed digest of {entry} equals the medium's, and the regenerated output of that entry "
        "was not found to fit the medium."
    ),
    "outside_envelope": (
        "What the file shows of its own history ({condition}) lies outside every point that the "
        "calibration measured."
    ),
    "power_too_low": (
        "Too many of the model's own pictures would be missed under these conditions, or a channel "
        "that would have to be silent was not run on all epochs: finding nothing says too little."
    ),
    "not_calibrated": (
        "The error rates for this medium are not known: there is no calibration of the model that "
        "counts for it, or the examiner's own repeat contradicts it."
    ),
    "log_check_failed": "The record failed a check: {checks}.",
    "wrong_format": (
        "No known transformation leads from the model's output to this file, so that nothing could "
        "be compared. {problem}"
    ),
}

NAMED: Final = "What was measured points to {entry}."

ORDER: Final[dict[str, str]] = {
    "shown": "The entry is timestamped before the earliest proven existence of the medium.",
    "not_shown": (
        "That the entry is older than the medium is not shown: {why}. The order of time rests on "
        "the record's own word."
    ),
    "reversed": (
        "The medium existed before the entry was timestamped; the order of time does not support "
        "that the entry came first."
    ),
}

CIPHER: Final = (
    "The latents were drawn under AES-256 keys that nobody outside the record held before "
    "disclosure."
)
MILDER: Final = (
    "Between calibrated strengths a milder distortion is taken to be missed no more often than the "
    "harsher calibrated one ({condition})."
)
INVISIBLE: Final = (
    "A file does not show crop, blur, local edits, regeneration by another model or deliberate "
    "evasion; none of them lies in the envelope."
)
SEED: Final = (
    "The entry logged a seed, not a scheduled latent: the bound against coincidence assumes a "
    "secret latent and does not apply to it."
)
UNRECORDED: Final = (
    "The record holds no generation for this counter ({state}); that check of the record is "
    "shown as failed."
)
CHECK_NOT_RUN: Final = "Not checked: {name}{detail}."
CHANNEL_NOT_RUN: Final = "Not run for {model}: the {channel} channel{detail}."
NOT_LOGGED: Final = "The calibration of {model} was not logged before the examination."
MADE_ELSEWHERE: Final = "The calibration of {model} was made elsewhere and taken over."
NO_REPEAT: Final = "The examiner did not repeat the calibration of {model}."
RECIPIENTS: Final = (
    "Independence is not claimed of those to whom these epochs were disclosed before: {names}."
)
EPOCHS: Final = "Epochs of {model} compared: {epochs}."
UNDISCLOSED: Final = "Epochs of {model} not disclosed and not compared: {epochs}."


def entry_words(index: int | None, epoch: int, counter: int) -> str:
    """Name a counter the way a reader finds it again."""
    if index is not None:
        return f"entry {index}"
    return f"counter {counter} of epoch {epoch}"


def output_words(index: int | None, epoch: int, counter: int) -> str:
    """Name a counter's output."""
    words = entry_words(index, epoch, counter)
    return f"{words}'s output" if index is not None else f"the output of {words}"


def detail(text: str) -> str:
    return f" ({text})" if text else ""
