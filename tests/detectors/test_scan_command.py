"""``genwm scan``: a record for every file, once, whatever happens to the run; pages, tables and words that hold."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from detectors.record import Record
from detectors.scan.pages import Pages, page, page_name, timeline
from detectors.scan.settings import MIB, Limits, Settings, available
from detectors.scan.single import Picture
from detectors.scan.table import COLUMNS, check_table, write_table
from detectors.verdict import Policy, SyntheticPolicy, policy_text
from genwm import cli
from genwm.keys import Key
from genwm.video import write_video
from tests.clips import KEY, PAYLOAD, make_clip, marked, scene
from tests.detectors.scan.records import record_of
from tests.detectors.scan.test_inputs import refusing

ROOT = Path(__file__).parents[2]
HEX = f"{PAYLOAD:016x}"
NASTY = "<img src=x onerror=alert(1)>.mp4"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("originals")
    write_video(folder / "marked.mp4", marked(scene(456, 256, 12)), fps=25, crf=18, preset="veryfast")
    make_clip(folder / "plain.mp4", width=456, height=256, frames=8)
    return folder


@pytest.fixture
def uploads(originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_keyring: Path) -> Path:
    """A folder with a marked clip under two names, a plain one, an empty file and a text."""
    own_keyring.parent.mkdir()
    own_keyring.write_text(json.dumps({"schema": "genwm.keyring/1", "keys": [
        {"name": "studio", "secret": KEY.secret.hex(), "created": KEY.created, "retired": False},
    ]}))  # fmt: skip
    own_keyring.chmod(0o600)
    folder = tmp_path / "uploads"
    folder.mkdir()
    for name, original in {"a.mp4": "marked.mp4", NASTY: "marked.mp4", "plain.mp4": "plain.mp4"}.items():
        shutil.copy(originals / original, folder / name)
    (folder / "empty.mp4").touch()
    (folder / "notes.txt").write_text("no video")
    monkeypatch.chdir(tmp_path)
    return folder


def run(*args: object) -> int:
    return cli.run(["scan", *map(str, args)])


def records(path: Path) -> dict[str, Record]:
    found = [Record.from_json(line) for line in path.read_text().splitlines()]
    assert len({record.input.path for record in found}) == len(found)
    return {record.input.path: record for record in found}


# --- records


def test_every_file_gets_one_record(uploads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run("uploads", "missing.mp4", "-o", "out/records.jsonl", "--html", "pages", "--csv", "table.csv", "--json")
    out, err = capsys.readouterr()
    found = records(Path("out/records.jsonl"))
    verdicts = {path: record.error.code if record.error else record.verdict for path, record in found.items()}
    assert verdicts == {
        "uploads/a.mp4": "watermark_detected", f"uploads/{NASTY}": "watermark_detected",
        "uploads/plain.mp4": "no_evidence", "uploads/empty.mp4": "empty-file", "uploads/notes.txt": "not-media",
        "missing.mp4": "not-found",
    }  # fmt: skip
    (repeat,) = [record for record in found.values() if record.duplicate_of is not None]
    original = found[repeat.duplicate_of or ""]
    assert {repeat.input.path, original.input.path} == {"uploads/a.mp4", f"uploads/{NASTY}"}
    assert repeat.watermark == original.watermark
    mark = found["uploads/a.mp4"].watermark
    assert mark is not None
    assert (mark.payload, [part.payload for part in mark.segments]) == (HEX, [HEX])
    assert status == 1
    summary = json.loads(out)
    assert summary["verdicts"] == {"error": 3, "no_evidence": 1, "watermark_detected": 2}
    assert summary["errors"] == {"empty-file": 1, "not-found": 1, "not-media": 1}
    assert (summary["files"], summary["scanned"], summary["skipped"], summary["duplicates"]) == (6, 6, 0, 1)
    assert "6 files in" in err
    assert "empty-file 1" in err
    check_pages(Path("pages"), found)
    with open("table.csv", newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert {path: row["verdict"] for path, row in rows.items()} == {p: r.verdict for p, r in found.items()}
    assert rows["uploads/a.mp4"]["payload"] == HEX

    # The same again has nothing left to do, says so, and ends with the same status.
    before = Path("out/records.jsonl").read_bytes()
    assert run("uploads", "missing.mp4", "-o", "out/records.jsonl", "--html", "pages", "--resume", "--json") == 1
    out, err = capsys.readouterr()
    assert Path("out/records.jsonl").read_bytes() == before
    assert (json.loads(out)["scanned"], json.loads(out)["skipped"]) == (0, 6)
    assert json.loads(out)["verdicts"] == summary["verdicts"]

    # A new name for known bytes is not read again; new bytes under a known name are.
    shutil.copy(uploads / "plain.mp4", uploads / "again.mp4")
    shutil.copy(uploads / "plain.mp4", uploads / "notes.txt")
    assert run("uploads", "-o", "out/records.jsonl", "--html", "pages", "--resume", "--json") == 1
    added = [Record.from_json(line) for line in Path("out/records.jsonl").read_bytes()[len(before) :].splitlines()]
    assert {record.input.path: record.duplicate_of for record in added} == {
        "uploads/again.mp4": "uploads/plain.mp4", "uploads/notes.txt": "uploads/plain.mp4",
    }  # fmt: skip
    assert json.loads(capsys.readouterr().out)["duplicates"] == 2


def test_what_could_not_be_read_before_counts_as_it_is_now(
    uploads: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a missing file nor a folder that could not be listed keeps its error where a later run read it."""
    locked = uploads / "locked"
    locked.mkdir()
    shutil.copy(uploads / "plain.mp4", locked)

    def told(*more: str) -> tuple[dict[str, int], list[str], str]:
        run("uploads", "late.mp4", "-o", "r.jsonl", "--csv", "t.csv", "--html", "pages", "--only", "plain*", "--json",
            *more)  # fmt: skip
        with open("t.csv", newline="", encoding="utf-8") as file:
            rows = [f"{row['path']} {row['error'] or row['verdict']}" for row in csv.DictReader(file)]
        return json.loads(capsys.readouterr().out)["verdicts"], sorted(rows), Path("pages/index.html").read_text()

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refusing("uploads/locked"))
        verdicts, rows, index = told()
    assert verdicts == {"error": 2, "no_evidence": 1}
    assert rows == ["late.mp4 not-found", "uploads/locked bad-input", "uploads/plain.mp4 no_evidence"]
    assert index.count("not-found") == index.count("bad-input") == 1
    shutil.copy(uploads / "plain.mp4", "late.mp4")
    verdicts, rows, index = told("--resume")
    assert verdicts == {"no_evidence": 3}
    assert rows == [f"{name} no_evidence" for name in ("late.mp4", "uploads/locked/plain.mp4", "uploads/plain.mp4")]
    assert "not-found" not in index
    assert "bad-input" not in index


def check_pages(folder: Path, found: dict[str, Record]) -> None:
    index = (folder / "index.html").read_text()
    assert re.findall(r'data-verdict="(\w+)"', index).count("watermark_detected") == 2
    assert set(re.findall(r'href="(files/\w+\.html)"', index)) == {page_name(record) for record in found.values()}
    pages = {path.name: path.read_text() for path in (folder / "files").iterdir()}
    assert len(pages) == 5  # the duplicate shares its page
    for document in [index, *pages.values()]:
        assert "<img src=x" not in document
        loads = re.findall(r'\s(?:src|href)="([^"]*)"', document)
        assert all(link.startswith(("data:", "files/", "../index.html")) for link in loads)
    evidence = (folder / page_name(found["uploads/a.mp4"])).read_text()
    assert 1 <= evidence.count("data:image/jpeg;base64,") <= 6
    assert evidence.count('class="marked"') == 1
    assert all(word in evidence for word in (HEX, KEY.id, "How to reproduce", found["uploads/a.mp4"].settings or "-"))


def test_records_on_stdout_and_a_list_on_stdin(
    uploads: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"uploads/plain.mp4\nuploads/empty.mp4\n")))
    assert run("-", "--workers", 1) == 1
    out, err = capsys.readouterr()
    assert [json.loads(line)["verdict"] for line in out.splitlines()] in (
        ["error", "no_evidence"], ["no_evidence", "error"])  # fmt: skip
    assert "2 files in" in err
    assert run("uploads/*.mp4", "--only", "*.mp4", "--time-limit", 50, "--memory-limit", 700) == 1
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_folder_that_cannot_be_listed_costs_a_record_and_the_exit_status(
    uploads: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("empty.mp4", "notes.txt", NASTY, "a.mp4"):
        (uploads / name).unlink()
    (uploads / "closed").mkdir()
    (uploads / "link").symlink_to("closed")
    monkeypatch.setattr(os, "scandir", refusing("uploads/closed"))
    assert run("uploads", "--workers", 1) == 1
    out, err = capsys.readouterr()
    found = {record["input"]["path"]: record["error"] for record in map(json.loads, out.splitlines())}
    assert found.keys() == {"uploads/plain.mp4", "uploads/closed"}
    assert found["uploads/plain.mp4"] is None
    assert found["uploads/closed"]["code"] == "bad-input"
    assert "Warning: 1 link to a folder was not followed (uploads/link)" in err


@pytest.mark.skipif("synthetic" not in available(), reason="needs the classifier's weights")
def test_a_policy_that_no_clip_can_meet_is_told(uploads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strict = Policy(name="strict", synthetic=SyntheticPolicy(false_positive_rate=1e-3))
    Path("strict.toml").write_text(policy_text(strict))
    assert run("uploads/plain.mp4", "uploads/a.mp4", "--policy", "strict.toml", "--workers", 1) == 0
    out, err = capsys.readouterr()
    assert err.count("Warning: no clip can be called likely synthetic by its score") == 1
    told = [json.loads(line)["warnings"] for line in out.splitlines()]
    assert [sum("no clip can be called" in words for words in warnings) for warnings in told] == [1, 1]
    assert run("uploads/plain.mp4", "--workers", 1) == 0
    assert "no clip can be" not in "".join(capsys.readouterr())


# --- a run that is killed


def test_a_killed_run_goes_on_without_loss_or_repeat(uploads: Path, originals: Path, own_keyring: Path) -> None:
    """Each copy has bytes of its own behind its end, where no reader looks. Killed again and again, at moments spread
    over the run, it ends with one record a file."""
    content = (originals / "marked.mp4").read_bytes()
    many = uploads.parent / "many"
    many.mkdir()
    for number in range(14):
        trailer = number.to_bytes(4, "big")
        (many / f"{number}.mp4").write_bytes(content + (12).to_bytes(4, "big") + b"free" + trailer)
    for number in range(2):
        shutil.copy(many / "0.mp4", many / f"copy-{number}.mp4")
    journal = uploads.parent / "records.jsonl"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from genwm import cli; sys.exit(cli.run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "scan", str(many), "-o", str(journal), "--resume", "--workers", "2"]
    kills = 0
    for wanted in (1, 5, 10):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < wanted):
            time.sleep(0.005)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 2
    done = journal.read_bytes()
    journal.write_bytes(done + done[:100])  # and what a crash of the machine may leave
    result = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert "torn" in result.stderr
    assert journal.read_bytes().startswith(done)
    found = records(journal)
    assert {Path(path).name for path in found} == {path.name for path in many.iterdir()}
    assert {record.verdict for record in found.values()} == {"watermark_detected"}
    summary = json.loads(result.stdout)
    assert summary["files"] == len(found) == 16
    assert summary["scanned"] + summary["skipped"] == 16
    same = [record for record in found.values() if record.duplicate_of is not None]
    assert len(same) == 2


# --- wrong calls


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "at least one path"),
        (["uploads", "--resume"], "--output"),
        (["uploads", "--json"], "--output"),
        (["uploads", "--workers", "0"], "workers"),
        (["uploads", "--shards", "parquet"], "--engine ray"),
        (["uploads", "--key", "nobody"], "nobody"),
        (["uploads", "--policy", "none.toml"], "check the path"),
        (["uploads", "-o", "uploads/notes.txt"], "--resume"),
        (["uploads", "-o", "uploads/notes.txt", "--resume"], "line 1"),
        (["uploads", "--html", "uploads/notes.txt"], "notes.txt"),
        (["uploads", "--csv", "uploads/notes.txt"], "choose another name for --csv"),
        (["uploads", "--html", "site"], "choose another with --html"),
        (["uploads", "-o", "same", "--csv", "./same"], "different places for --output and --csv"),
        (["uploads", "-o", "same", "--csv", "alias"], "different places for --output and --csv"),
        (["uploads", "-o", "out", "--csv", "./out", "--engine", "ray"], "different places for --output and --csv"),
        (["uploads", "--html", "site", "--csv", "site/index.html"], "the index of --html"),
        (["uploads", "--html", "new", "--csv", "new"], "different places for --csv and --html"),
        (["uploads", "-o", "out.jsonl", "--html", "uploads/"], "another folder for --html than one to scan"),
        (["uploads", "-o", "./uploads", "--engine", "ray"], "another folder for --output than one to scan"),
        (["uploads", "-o", "out.jsonl", "--csv", "uploads/notes.txt/t.csv"], "folder for --csv"),
        (["uploads", "-o", "out.jsonl", "--csv", "pipe"], "choose another name for --csv"),
        (["uploads", "--trust", "uploads/notes.txt"], "PEM"),
    ],
)
def test_wrong_calls_are_one_sentence(
    uploads: Path, args: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("site").mkdir()
    Path("site/index.html").write_text("mine")
    Path("alias").symlink_to("same")
    os.mkfifo("pipe")
    assert run(*args) == 2
    err = capsys.readouterr().err
    assert says in err
    assert Path("site/index.html").read_text() == "mine"
    assert "Traceback" not in err
    assert not Path("out.jsonl").exists()
    assert not Path("same").exists()
    assert (uploads / "notes.txt").read_text() == "no video"


def test_a_table_holds_each_file_once_though_the_journal_has_it_under_other_settings_too(uploads: Path) -> None:
    for more in ((), ("--resume", "--time-limit", "60")):
        run("uploads/empty.mp4", "uploads/notes.txt", "-o", "r.jsonl", "--csv", "t.csv", *more)
        with open("t.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert sorted(row["path"] for row in rows) == ["uploads/empty.mp4", "uploads/notes.txt"]
        assert len({row["settings"] for row in rows}) == 1
    assert len(Path("r.jsonl").read_text().splitlines()) == 4


def test_a_run_without_files_says_so(uploads: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert run("empty", "-o", "none.jsonl") == 0
    assert "Warning: there is no file to scan." in capsys.readouterr().err
    assert run("uploads", "--only", "*.avi", "-o", "none.jsonl") == 0
    assert "no file to scan, or none whose name --only matches" in capsys.readouterr().err


def test_an_empty_keyring(uploads: Path, own_keyring: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_keyring.unlink()
    assert run("uploads", "--policy", "none.toml") == 2
    Path("mine.toml").write_text('schema = "genwm.policy/1"\nthreshold = 3\n')
    assert run("uploads", "--policy", "mine.toml") == 2
    assert "unknown key 'threshold'" in capsys.readouterr().err


def test_the_policy_can_be_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--print-policy") == 0
    (tmp_path / "copy.toml").write_text(capsys.readouterr().out)
    assert Settings.load(policy=tmp_path / "copy.toml").policy.name == "default"


# --- pages and tables


def test_a_page_tells_everything(tmp_path: Path) -> None:
    mark = {"status": "detected", "key": "studio", "payload": HEX, "log10_p": -20.5,
            "geometry": {"scale": 1.25, "rotation": 0, "flip": True, "aspect": 1},
            "segments": [{"start": 1.0, "end": 3.0, "key": "studio", "payload": HEX, "log10_p": -9}]}  # fmt: skip
    score = {"status": "likely_synthetic", "probability": 0.97, "model": "small-1", "false_positive_rate": 0.01,
             "segments": [{"start": 0.0, "end": 2.0, "probability": 0.5, "place": [1, 2, 3, 4]}]}  # fmt: skip
    source = {"path": "</title><script>x</script>.mp4", "sha256": "0" * 64, "bytes": 5, "container": "mp4",
              "codec": "h264", "width": 8, "height": 6, "fps": 25.0, "duration": 4.0}  # fmt: skip
    record = record_of("x", input=source, watermark=mark, synthetic=score, verdict="inconclusive",
                       contradictions=("The mark is another clip's.",), reasons=("One.", "Two."),
                       warnings=("dark", "short."))
    heat = ((0.0, 0.0, 1.0, 0.5, 0.75), (0.0, 0.5, 1.0, 0.5, 0.25))
    document = page(record, [Picture(1.5, b"\xff\xd8", heat)], Settings(keys=(KEY,)))
    assert "<script>x" not in document
    for words in ("The mark is another clip&#x27;s.", "<li>One.</li><li>Two.</li>", "dark; short.</p>", HEX, "small-1",
                  "0.970", "1.25 times as large as in an uncut copy, mirrored",
                  KEY.id, "sha256sum", "frame at 1.5 s", "key studio"):
        assert words in document
    assert KEY.secret.hex() not in document
    assert '<rect x="0.00%" y="0.00%" width="50.00%" height="100.00%" fill-opacity="0.65"/>' in document
    assert '<rect class="place" x="2" y="1" width="4" height="3">' in document
    assert "Outlined: parts that the classifier looked at; filled: " in document
    short = timeline(record.model_copy(update={"input": record.input.model_copy(update={"duration": 0.08}),
                                               "watermark": None, "synthetic": None}))
    assert re.findall(r">([\d.]+ s)<", short) == ["0.00 s", "0.02 s", "0.04 s", "0.06 s", "0.08 s"]
    drawn = timeline(record)
    bars = re.findall(r'class="(marked|suspect)" x="([\d.]+)%" y="\d+" width="([\d.]+)%"', drawn)
    assert re.findall(r'fill-opacity="([\d.]+)"', drawn) == ["1.00", "0.50"]
    assert [(kind, float(x), float(width)) for kind, x, width in bars] == [
        ("marked", 25.0, 50.0), ("suspect", 0.0, 50.0)]  # fmt: skip


def test_the_half_of_a_file_that_cannot_be_judged_is_no_probability(tmp_path: Path) -> None:
    score = {"status": "inconclusive", "probability": 0.5, "model": "small-1"}
    record = record_of("still.png", synthetic=score)
    document = page(record, [Picture(0.0, b"\xff\xd8")], Settings(keys=(KEY,)))
    assert "<td>could not judge the file</td>" in document
    assert 'id="heat"' not in document
    pages = Pages(tmp_path, Settings(keys=(KEY,)))
    pages.write_index([record.model_copy(update={"settings": Settings(keys=(KEY,)).digest})])
    assert ">not judged</td>" in (tmp_path / "index.html").read_text()
    write_table(tmp_path / "t.csv", [record])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["synthetic"], row["probability"]) == ("inconclusive", "")


def test_searching_everywhere_is_another_setting(uploads: Path) -> None:
    found = []
    for options in ((), ("--everywhere",)):
        run("uploads/plain.mp4", "-o", f"{len(options)}.jsonl", *options)
        (record,) = records(Path(f"{len(options)}.jsonl")).values()
        found.append((record.verdict, record.settings))
    assert [verdict for verdict, _ in found] == ["no_evidence", "no_evidence"]
    assert found[0][1] != found[1][1]


def test_a_page_names_every_option_that_is_not_usual() -> None:
    policy = Policy(name="strict", synthetic=SyntheticPolicy(hint_rate=0.02))
    settings = Settings(keys=(KEY, Key.generate("other")), policy=policy, timeline=True, everywhere=True,
                        trust="my trust.pem", model="my model", limits=Limits(time_s=7.5, memory_bytes=700 * MIB))
    for changed in (policy, policy.model_copy(update={"name": "default"})):
        document = html.unescape(page(record_of("-a b.mp4"), (), replace(settings, policy=changed)))
        command, text = re.findall(r"<pre>(.*?)</pre>", document, re.DOTALL)[:2]
        assert shlex.split(command.splitlines()[1]) == [
            "genwm", "scan", "--timeline", "--everywhere", "--policy", "policy.toml", "--key", "studio", "--key",
            "other", "--model", "my model", "--trust", "my trust.pem", "--time-limit", "7.5", "--memory-limit", "700",
            "./-a b.mp4",
        ]  # fmt: skip
        assert text == policy_text(changed)
    usual = html.unescape(page(record_of("a.mp4"), (), Settings(keys=(KEY,))))
    assert "\ngenwm scan --key studio a.mp4</pre><table" in usual


def test_a_page_shows_what_a_name_hides() -> None:
    record = record_of("up/evil\u202e4pm.exe\r", "x")
    document = page(record, (), Settings(keys=(KEY,)))
    assert "\u202e" not in document
    assert "\r" not in document
    assert r"<h1>up/evil\u202e4pm.exe\r</h1>" in document
    assert r"sha256sum $'up/evil\xe2\x80\xae4pm.exe\x0d'" in html.unescape(document)
    shown = document.partition("<summary>JSON</summary><pre>")[2].partition("</pre>")[0]
    assert json.loads(html.unescape(shown)) == json.loads(record.to_json())


def test_a_table_is_no_spreadsheet_program(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", [record_of("=1+1.mp4"), record_of("b", code="too-large"), record_of("-c")])
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == list(COLUMNS)
    assert [row[0] for row in rows] == ["'=1+1.mp4", "b", "'-c"]
    assert rows[1][head.index("error")] == "too-large"
    names = ["\t=1", "\r=1", "\n=1", "\r\n=1", "a\r=1"]
    write_table(tmp_path / "t.csv", map(record_of, names))
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)][1:] == ["'\t=1", "'\r=1", "'\n=1", "'\r\n=1", "a\r=1"]


def test_the_folder_of_a_table_is_made_at_the_start(tmp_path: Path) -> None:
    check_table(tmp_path / "deep" / "er" / "t.csv")
    assert list((tmp_path / "deep" / "er").iterdir()) == []
    write_table(tmp_path / "deep" / "er" / "t.csv", [record_of("a")])
    check_table(tmp_path / "deep" / "er" / "t.csv")


def test_a_scan_can_be_interrupted(uploads: Path, own_keyring: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from genwm import cli; sys.exit(cli.run(sys.argv[1:]))"
    os.mkfifo(uploads / "list")
    with open(os.open(uploads / "list", os.O_RDWR), "wb") as pipe:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "scan", "-"], stdin=pipe, stderr=subprocess.PIPE,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )  # fmt: skip
        err = None
        try:
            for _ in range(30):  # a signal in the middle of an import may be lost: people press the keys again
                with suppress(subprocess.TimeoutExpired):
                    _, err = process.communicate(timeout=2)
                    break
                process.send_signal(signal.SIGINT)
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
    assert err is not None
    assert process.returncode in (130, -signal.SIGINT)
    assert b"error[" not in err


@pytest.mark.parametrize("limit", [("--time-limit", "nan"), ("--time-limit", "inf"), ("--memory-limit", 10**19)])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: tuple[object, ...]
                                         ) -> None:
    assert run(tmp_path, "-o", tmp_path / "records.jsonl", *limit) == 2
    assert f"error[usage]: Invalid value for '{limit[0]}': {limit[1]} is not " in capsys.readouterr().err
    assert not (tmp_path / "records.jsonl").exists()
