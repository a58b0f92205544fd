"""The summary of quality, of rows whose answers are known."""

from __future__ import annotations

import json

from eval.quality import summary
from eval.quality.running import COLUMNS


def row(clip: str, method: str = "genwm", **values: str) -> dict[str, str]:
    strength, profile = ("balanced", "colour") if method == "genwm" else ("default", "")
    blank = dict.fromkeys(COLUMNS, "")
    return blank | {"clip": clip, "method": method, "strength": strength, "profile": profile, "frames": "72"} | values


def test_summary_gives_mean_worst_and_bars() -> None:
    text = summary([row("a", jod_fhd="9.9", vmaf="96"), row("b", jod_fhd="9.4", vmaf="99")])
    assert "| genwm balanced colour | 2 |" in text
    assert "9.650 / 9.400" in text
    assert "| jod_fhd | 9.650 | 9.7: MISSED | 9.400 | 9.5: MISSED | 1 of 2 | b 9.400, a 9.900 |" in text
    assert "| vmaf | 97.50 | 97: met | 96.00 | 95: met | 0 of 2 |" in text


def test_summary_says_where_rows_are_by_several_versions() -> None:
    rows = [row(clip, jod_fhd="9.9", versions=f"genwm {by}; av 1") for clip, by in (("a", 1), ("b", 1), ("c", 2))]
    assert "Rows by 2 versions of the code: genwm 1: 2, genwm 2: 1." in summary(rows)
    assert "versions" not in summary(rows[:2])


def test_clips_of_two_sizes_are_counted_apart() -> None:
    text = summary([row("a", jod_fhd="9.9"), row("a", jod_fhd="9.5", lines="480")])
    assert "| genwm balanced colour | 1 | 9.900 / 9.900 |" in text
    assert "| genwm balanced colour at most 480 lines | 1 | 9.500 / 9.500 |" in text


def test_summary_compares_methods_on_shared_clips_and_lists_failures() -> None:
    text = summary(
        [
            row("a", jod_fhd="9.9"),
            row("b", jod_fhd="9.5"),
            row("b", "rivaGan", jod_fhd="9.6"),
            row("c", "rivaGan", error="not-media", message="Expected a video"),
        ]
    )
    shared = text.split("## The 1 clip that")[1]
    assert "9.500 / 9.500" in shared
    assert "9.600 / 9.600" in shared
    assert "- c (rivaGan): not-media: Expected a video" in text


def test_summary_says_of_how_many_clips_a_mean_is() -> None:
    failed = json.dumps({"jod": "internal: MemoryError: none"})
    text = summary([row("a", jod_fhd="9.9", ssim=".9"), row("b", ssim=".8", failed=failed)])
    assert "| genwm balanced colour | 2 | 0.8500 / 0.8000 | 9.900 / 9.900 (1 clip) |" in text
    assert "- b (genwm): jod: internal: MemoryError: none" in text


def test_summary_of_nothing_is_still_a_page() -> None:
    assert summary([]).startswith("# Quality")
