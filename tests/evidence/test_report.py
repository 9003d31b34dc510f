"""The report: two pages whatever the case, its words, its accessibility, its determinism."""

import io
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pikepdf
import pypdf
import pytest
import typst
from PIL import Image

from latentlog.evidence.assemble import make_bundle
from latentlog.evidence.bundle import REPORT
from latentlog.evidence.errors import MissingExtra
from latentlog.evidence.finding import decide
from latentlog.evidence.measurements import LogCheck, Rules
from latentlog.evidence.record import Record
from latentlog.evidence.report import phrases
from latentlog.evidence.report.figures import difference, figure
from latentlog.evidence.report.pdf import render_report
from latentlog.evidence.report.sections import write_report
from latentlog.evidence.rule import INCONCLUSIVE_REASONS, NEGATIVE_REASONS, POSITIVE_REASONS
from latentlog.evidence.statement import ROLES
from latentlog.evidence.steps import STEPS
from tests.evidence import cases
from tests.evidence.scores import MODEL

REASONS = (*POSITIVE_REASONS, *NEGATIVE_REASONS, *INCONCLUSIVE_REASONS)
FORBIDDEN = re.compile(
    r"match|\bprove[sdn]?\b|probability that|likely|guilt|deepfake", re.IGNORECASE
)


@cache
def report(outcome: str = "produced", role: str = "independent") -> bytes:
    made, log = cases.case(outcome)
    return make_bundle(made, cast(Record, log), cases.signature(role=role))[REPORT]


def pages(pdf: bytes) -> list[str]:
    """The text of every page, with white space evened out."""
    read = pypdf.PdfReader(io.BytesIO(pdf)).pages
    return [plain(page.extract_text()) for page in read]


def plain(text: str) -> str:
    """Text without what only a printer sees: places to break, kinds of space and apostrophe."""
    return " ".join(text.replace("\u200b", "").replace("’", "'").split())


@pytest.mark.parametrize("outcome", cases.OUTCOMES)
def test_every_outcome_fills_two_pages_with_what_a_reader_needs(outcome: str) -> None:
    made, _ = cases.case(outcome)
    first, second = pages(report(outcome))
    words = phrases.text()
    assert words["decision"]["heading"][made.finding.outcome] in first
    assert plain(made.finding.explanation) in first
    assert words["question"]["heading"] in first
    for sentence in (*words["limits"][made.finding.outcome], *words["limits"]["common"]):
        assert plain(sentence) in first
    for check in made.finding.log_checks:
        assert check.detail in second
    for assumption in made.finding.assumptions:
        assert assumption in second
    for name in STEPS:
        assert name in second
    for digest in (made.exhibits[0].sha256, MODEL, cases.EXAMINER_KEY.public.hex()):
        assert digest in second
    assert first.endswith("Page 1 of 2")
    assert second.endswith("Page 2 of 2")


def test_produced_states_both_ratios_and_what_the_number_excludes() -> None:
    first = pages(report("produced_latent"))[0]
    assert "This excludes coincidence only." in first
    assert "at least 10³⁸" in first
    assert "at most 250" in first
    assert "never combined" in first


def test_not_produced_states_what_would_have_been_missed() -> None:
    first, second = pages(report("not_produced"))
    assert "missed in at most 5 % of cases" in first
    assert "closest image the model was able to make" in first
    assert "JPEG, quality 75 150 9 12.2 % no" in second
    assert "PNG, unchanged 150 0 3.1 % yes" in second


def test_inconclusive_says_what_could_settle_it_and_gives_no_weight() -> None:
    first = pages(report("altered_region"))[0]
    assert "What could settle it" in first
    assert "No weight is given to an inconclusive finding" in first
    assert "Where it does not fit" in first


@pytest.mark.parametrize("role", ROLES)
def test_a_party_that_examines_its_own_case_says_so_first(role: str) -> None:
    notice = phrases.text()["notice"].get(role)
    assert (notice is not None) == role.endswith("_party")
    for page in pages(report("not_produced", role)):
        assert page.startswith(notice) if notice else "who signed this report is" not in page


def test_no_word_says_more_than_the_finding_may() -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [s for v in value.values() for s in strings(v)]
        return [s for v in value for s in strings(v)] if isinstance(value, list) else [str(value)]

    for sentence in strings(phrases.text()):
        assert not FORBIDDEN.search(sentence), sentence
    for outcome in ("produced", "not_produced", "altered_region"):
        first = pages(report(outcome))[0]
        assert not FORBIDDEN.search(first)
        assert "latentlog" not in first.lower()


def test_every_reason_outcome_and_role_has_its_words() -> None:
    words = phrases.text()
    assert set(words["reason"]) == set(REASONS)
    assert set(words["decision"]["sentence"]) == set(REASONS)
    assert set(words["settle"]) == {"heading", *INCONCLUSIVE_REASONS}
    assert set(words["decision"]["heading"]) == {"produced", "not_produced", "inconclusive"}
    assert set(words["role"]) == set(ROLES)


# The file.


def test_the_file_claims_and_carries_what_pdf_a_and_pdf_ua_ask_for() -> None:
    with pikepdf.open(io.BytesIO(report())) as pdf:
        with pdf.open_metadata() as metadata:
            assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"]) == ("3", "A")
            assert metadata["pdfuaid:part"] == "1"
            assert metadata["dc:title"] == "Report of an image examination"
            assert metadata["xmp:CreateDate"].startswith("2026-03-04T05:06:07")
        assert str(pdf.Root.Lang) == "en"
        assert bool(pdf.Root.MarkInfo.Marked)
        assert bool(pdf.Root.ViewerPreferences.DisplayDocTitle)
        assert len(pdf.pages) == 2
        for page in pdf.pages:
            width, height = (float(x) for x in page.mediabox[2:])
            assert (width, height) == pytest.approx((595.28, 841.89), abs=0.01)
        for font in (o for o in pdf.objects if isinstance(o, pikepdf.Dictionary)):
            if font.get("/Type") == "/FontDescriptor":
                assert "/FontFile3" in font or "/FontFile2" in font


def test_every_picture_has_a_description() -> None:
    with pikepdf.open(io.BytesIO(report("altered_region"))) as pdf:
        elements = [o for o in pdf.objects if isinstance(o, pikepdf.Dictionary)]
        figures = [e for e in elements if e.get("/S") == "/Figure"]
        alts = [str(e.Alt) for e in figures]
    assert len(alts) == 4
    assert "The examined image, 64 × 64 pixels." in alts
    assert any(alt.startswith("Difference of the images A and B") for alt in alts)


def test_the_same_parts_give_the_same_bytes() -> None:
    made, log = cases.case("produced")
    parts = make_bundle(made, cast(Record, log), cases.signature())
    assert render_report(parts) == parts[REPORT] == report()
    assert parts[REPORT].endswith(b"%%EOF\n")


def test_without_typst_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = cases.parts("produced", with_report=False)
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(MissingExtra) as missing:
        render_report(parts)
    assert missing.value.next_step == 'pip install "latentlog[report]"'


# Hostile and overlong content.


def remade(
    change: Callable[[cases.Case], cases.Case], **signed: Any
) -> tuple[dict[str, bytes], list[str]]:
    made, log = cases.case("not_produced")
    parts = make_bundle(change(made), cast(Record, log), cases.signature(**signed))
    return parts, pages(parts[REPORT])


def renamed(name: str) -> Callable[[cases.Case], cases.Case]:
    return lambda made: replace(made, exhibits=(replace(made.exhibits[0], name=name),))


@pytest.mark.parametrize(
    "name",
    [
        "#panic() $x$ *bold* _it_ `code` @ref <label> \\ // = heading.png",
        "x" * 5000 + ".png",
        "中文照片😀.png",
        "gnp.\u202egpj.exe",
        "a\u0000b\nc\td.png",
        "".join(map(chr, range(0x300, 0x370))),
        "../../etc/passwd",
        "",
    ],
)
def test_a_hostile_file_name_changes_nothing_but_itself(name: str) -> None:
    parts, shown = remade(renamed(name))
    assert len(shown) == 2
    assert all(part.isascii() and ".." not in part for part in parts)


def test_a_reader_sees_direction_marks_and_foreign_scripts_as_code_points() -> None:
    assert phrases.printable("a\u202eb") == "a[U+202E]b"
    assert phrases.printable("中") == "[U+4E2D]"
    assert phrases.printable("Ünïcödé ≤ ½ – “x”") == "Ünïcödé ≤ ½ – “x”"
    assert len(phrases.printable("x" * 500, 40)) == 40


def test_every_printable_character_is_in_the_fonts() -> None:
    known = [chr(c) for c in range(0x3000) if phrases.printable(chr(c)) == chr(c)]
    assert len(known) > 400
    source = b"""#set document(title: [t])
        #set text(font: "Libertinus Serif", fallback: false)
        #sys.inputs.t"""
    pdf = typst.compile(
        source,
        sys_inputs={"t": " ".join(known)},
        pdf_standards=["a-3a", "ua-1"],
        ignore_system_fonts=True,
        timestamp=0,
    )
    assert pdf.startswith(b"%PDF")


def test_long_lists_shrink_and_shorten_and_still_leave_two_pages() -> None:
    def long(made: cases.Case) -> cases.Case:
        checks = tuple(
            LogCheck(name=f"check_{i}", ok=[True, None, False][i % 3], detail="words " * 40)
            for i in range(60)
        )
        measured = replace(
            made.measurements, log_checks=checks, earlier_disclosures=("somebody, case 7",) * 40
        )
        calibration = made.rules.calibrations[0]
        points = tuple(replace(calibration.points[1], strength=float(100 - i)) for i in range(60))
        rules = Rules(
            calibrations=(replace(calibration, points=(*calibration.points[:1], *points)),)
        )
        return replace(made, measurements=measured, rules=rules, finding=decide(measured, rules))

    _, (first, second) = remade(long)
    assert "Page 1 of 2" in first
    assert "Page 2 of 2" in second
    assert "listed in statement.dsse.json" in second
    # What failed is shown before what passed.
    checks = second[second.index("Checks of the record") :]
    assert checks.count("FAILED") == 13
    assert "passed" not in checks


def test_a_case_without_pictures_or_models_still_has_its_two_pages() -> None:
    def bare(made: cases.Case) -> cases.Case:
        medium = replace(made.measurements.medium, problem="The file is no picture.", pixels=None)
        measured = replace(made.measurements, models=(), medium=medium)
        exhibit = replace(made.exhibits[0], pixels=None)
        rules = Rules()
        return replace(
            made,
            measurements=measured,
            rules=rules,
            finding=decide(measured, rules),
            pictures={},
            exhibits=(exhibit,),
        )

    _, (first, second) = remade(bare)
    assert "Inconclusive" in first
    assert "no error rate is known" in second


@pytest.mark.parametrize("side", [1, 7, 64, 700, 1300])
def test_pictures_of_any_size_fit(side: int) -> None:
    def sized(made: cases.Case) -> cases.Case:
        return replace(made, pictures={"medium": cases.portrait(side=side)})

    _, shown = remade(sized)
    assert len(shown) == 2


# Pictures and numbers.


def test_enlarging_repeats_pixels() -> None:
    pixels = cases.portrait(side=10)
    drawn = figure(pixels)
    shown = np.asarray(Image.open(io.BytesIO(drawn.png)))
    assert drawn.enlarged == 64
    assert np.array_equal(shown, pixels.repeat(64, 0).repeat(64, 1))
    assert (drawn.width, drawn.height, drawn.reduced) == (10, 10, False)


def test_large_pictures_are_reduced_and_said_to_be() -> None:
    drawn = figure(np.zeros((1000, 2600, 3), np.uint8))
    assert drawn.reduced
    assert Image.open(io.BytesIO(drawn.png)).size == (1280, 492)


def test_difference_states_its_gain_and_its_largest_value() -> None:
    a = np.full((8, 8, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0, 0] = 97
    apart = difference(a, b)
    assert apart is not None
    assert (apart.gain, apart.largest) == (16, 3)
    assert apart.pixels[0, 0, 0] == 48
    assert apart.pixels.sum() == 48


def test_equal_pictures_are_not_amplified() -> None:
    apart = difference(cases.portrait(), cases.portrait())
    assert apart is not None
    assert (apart.gain, apart.largest, int(apart.pixels.max())) == (1, 0, 0)


def test_a_large_difference_is_not_amplified() -> None:
    apart = difference(np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8))
    assert apart is not None
    assert (apart.gain, apart.largest) == (1, 255)


def test_grey_is_compared_with_colour_and_other_sizes_are_not_compared() -> None:
    grey, colour = np.full((4, 4, 1), 10, np.uint8), np.full((4, 4, 3), 12, np.uint8)
    apart = difference(grey, colour)
    assert apart is not None
    assert apart.largest == 2
    assert difference(grey, np.zeros((5, 4, 3), np.uint8)) is None


@pytest.mark.parametrize(
    ("given", "shown"),
    [("2.9e-39", "2⁻¹²⁸"), ("1.2e-8", "1.2 × 10⁻⁸"), ("0.018", "0.018"), ("1", "1")],
)
def test_probabilities_read_as_people_write_them(given: str, shown: str) -> None:
    assert phrases.probability(given) == shown


@pytest.mark.parametrize(
    ("log10", "shown"), [(0.0, "1"), (1.301, "19"), (2.398, "250"), (3.99, "9,772"), (38.5, "10³⁸")]
)
def test_ratios_are_rounded_down(log10: float, shown: str) -> None:
    assert phrases.ratio(log10) == shown


def test_rates_are_rounded_up() -> None:
    assert [phrases.rate(x) for x in (0.05, 0.0491, 0.04911, 1.0)] == [
        "5\u00a0%",
        "5\u00a0%",
        "5\u00a0%",
        "100\u00a0%",
    ]


def test_the_layout_gets_no_words_of_its_own() -> None:
    template = Path(phrases.__file__).with_name("template.typ").read_text("utf-8")
    code = re.sub(r"//.*", "", template)
    assert not re.findall(r"\[[^\]#\[]*[a-z]{4,}[^\]]*\]", code)


def test_content_is_json_and_names_only_its_own_pictures() -> None:
    made = write_report(cases.parts("altered_region", with_report=False))
    assert {image["path"] for image in made.content["images"]} == set(made.pictures)
    assert [image["heading"][0] for image in made.content["images"]] == ["A", "B", "C", "D"]
