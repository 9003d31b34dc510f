"""The numbered steps of `verify`, which the report prints under the same numbers."""

from typing import Final

STEPS: Final = (
    "the bundle is complete and well formed",
    "the statement was signed with the examiner's key that it names",
    "the list of files was signed with the same key, and every file is as listed",
    "the statement is about the examined file in the bundle",
    "the checkpoint was signed with the log's key that the statement names",
    "every cited entry is in the log",
    "every cited entry is sealed by the log's operator or a registered recorder",
    "what is shown of a cited generation opens its logged commitments",
    "models, epochs, calibrations and the entry of the finding are those of the log",
    "the rules follow from the controls of the calibrations",
    "the probability follows from cosine, dimension and number of comparisons",
    "the rules draw this finding from these measurements",
    "the log's key is one the reader trusts",
    "the examiner's key is one the reader trusts",
)
