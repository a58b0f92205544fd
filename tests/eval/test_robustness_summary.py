"""The summary of robustness, of rows whose answers are known."""

from __future__ import annotations

from eval.attacks import DEFAULT
from eval.robustness import FLOORS, Row, markdown, summarize


def row(**values: object) -> Row:
    base: dict[str, object] = dict.fromkeys(("clip", "label", "group", "family"), "")
    base |= {"short_side": 720, "frames": 72, "span": "72f", "attack": "h264.crf40"}
    base |= {"watermark": "lattice", "strength": "balanced", "profile": "colour"}
    return Row(**(base | values))  # type: ignore[arg-type]


def test_cells_count_by_attack_and_size() -> None:
    rows = [
        row(clip="a", present=1, right_key=1, exact=1, log10_p=-9.0, read_s=1.0),
        row(clip="b", present=1, right_key=1, log10_p=-7.0, read_s=3.0),
        row(clip="c", present=1, wrong_payload=1, log10_p=-8.0),
        row(clip="d", error="truncated"),
        row(clip="e", short_side=500, present=1, right_key=1, exact=1),
        row(clip="f", short_side=300),
        row(clip="a", attack="h264.crf23", present=1, right_key=1, exact=1),
    ]
    cells = {(cell.attack, cell.size): cell for cell in summarize(rows)}
    assert list(cells) == [("h264.crf23", "720+"), *(("h264.crf40", size) for size in ("720+", "480-719", "240-479"))]
    cell = cells[("h264.crf40", "720+")]
    assert (cell.clips, cell.errors, cell.present, cell.exact, cell.wrong_key, cell.wrong_payload) == (4, 1, 2, 1, 1, 1)
    assert (cell.present_rate, cell.exact_rate, cell.median_log10_p, cell.mean_read_s) == (50, 25, -8, 2)
    assert (cell.present_floor, cell.exact_floor, cell.present_met, cell.exact_met) == (97, 60, False, False)
    small = cells[("h264.crf40", "240-479")]
    assert (small.present_floor, small.present_met) == (None, None)
    assert cells[("h264.crf40", "480-719")].exact_floor == 35
    assert cells[("h264.crf23", "720+")].present_met


def test_marks_in_what_nobody_marked_are_told_as_false() -> None:
    forged = [row(clip=clip, attack="transplant.16+h264.crf23", present=1, right_key=1) for clip in "ab"]
    clean = row(clip="a", attack="unmarked+h264.crf23")
    text = markdown(summarize([*forged, clean, row(clip="a", present=1, right_key=1)]))
    assert "nobody marked (transplant.16+h264.crf23, unmarked+h264.crf23): 2 of 3.\n" in text
    assert "nobody marked" not in markdown(summarize([row(clip="a", present=1, right_key=1)]))


def test_clips_of_unknown_size_are_a_class_of_their_own() -> None:
    unread = row(clip="a", short_side=0, error="not-media")
    cells = summarize([unread, row(clip="b", short_side=100), row(clip="c", short_side=500)])
    assert [(cell.size, cell.clips, cell.errors) for cell in cells] == [
        ("480-719", 1, 0), ("under 240", 1, 0), ("unknown size", 1, 1),
    ]  # fmt: skip
    head = next(line for line in markdown(cells).splitlines() if line.startswith("| attack |"))
    assert head.index("under 240: present") < head.index("unknown size: present")


def test_the_report_begins_with_what_is_missed() -> None:
    text = markdown(summarize([row(clip="a", present=1, right_key=1), row(clip="b", short_side=480)]))
    assert text.index("- h264.crf40, 720+ lines: exact 0.0 % of 1, floor 60 %") < text.index("| attack |")
    assert "| h264.crf40 | 100.0 [21, 100] 1/1 ≥ 97 | 0.0 [0, 79] 0/1 **<** 60 |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {8}


def test_every_attack_of_the_table_has_its_floor() -> None:
    assert set(FLOORS) == set(DEFAULT)
    for floor in FLOORS.values():
        assert all(exact <= present for present, exact in zip(floor.present, floor.exact, strict=True))
        assert floor.present[0] >= floor.present[1]
