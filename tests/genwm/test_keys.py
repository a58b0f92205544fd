"""Keys draw the same patterns everywhere; the keyring neither loses nor leaks them."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from genwm.commands.keys import keys as command
from genwm.errors import DiskFullError, KeyExistsError, KeyMissingError, KeyringError
from genwm.keys import Key, Keyring

KEY = Key("studio", bytes(range(32)), "2026-01-01T00:00:00+00:00")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "keyring.json"


def digest(array: np.ndarray, dtype: str) -> str:
    return hashlib.sha256(array.astype(dtype).tobytes()).hexdigest()


def names(ring: Keyring) -> list[str]:
    listed = ring.keys()
    return [key.name for key in listed]


def test_vectors_are_pinned():
    """These never change under one VERSION: every mark ever made depends on them."""
    assert KEY.id == "5687b7489532ffbb"
    assert KEY.chips("a", 12).tolist() == [-1, -1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1]
    assert digest(KEY.chips("a", 1000), "i1") == "dd48f9b39bf901caacdb03fb4a2f2ba9b13aefe2c178848796c6894e99b85d66"
    assert KEY.integers("a", 2).tolist() == [18325098119949423176, 4667394149915307778]
    assert KEY.permutation("a", 10).tolist() == [8, 5, 6, 2, 9, 0, 7, 1, 4, 3]
    assert digest(KEY.permutation("tile", 5000), "<i8") == (
        "04993886c5a064e426bb029ff0f4c23286de59cc7c62e364c401703f02b890ae"
    )


def test_chips_are_what_the_docstring_says():
    stream = hashlib.shake_256(b"genwm-lattice-1\0" + KEY.secret + b"chips/x").digest(4)
    bits = [stream[i // 8] >> (i % 8) & 1 for i in range(30)]
    chips = KEY.chips("x", 30)
    assert chips.dtype == np.int8
    assert chips.tolist() == [1 - 2 * bit for bit in bits]


def test_labels_keys_and_purposes_are_independent():
    n = 20_000
    other = Key("studio", bytes(32), KEY.created)
    streams = [KEY.chips("a", n), KEY.chips("b", n), other.chips("a", n)]
    for i, one in enumerate(streams):
        assert abs(int(one.sum(dtype=int))) < 5 * n**0.5
        for two in streams[:i]:
            assert abs(int((one * two).sum(dtype=int))) < 5 * n**0.5
    assert KEY.stream("a", 64)[:16] == KEY.stream("a", 16)


@given(st.text(max_size=20), st.integers(0, 300))
def test_permutation_is_one(label: str, n: int):
    order = KEY.permutation(label, n)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(n))


def test_generated_keys_differ_and_hide_their_secret():
    one, two = Key.generate("Camera-1"), Key.generate("camera-1")
    assert one.name == "camera-1"
    assert one.secret != two.secret
    assert one.id != two.id
    assert one.secret.hex() not in repr(one)
    assert repr(one.secret) not in repr(one)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ü", "a" * 65, "a\n"])
def test_bad_names_are_refused(name: str):
    with pytest.raises(KeyringError, match="Expected a key name"):
        Key.generate(name)


def test_a_missing_file_is_an_empty_keyring(path: Path):
    ring = Keyring.load(path)
    assert ring.keys() == ()
    assert not path.parent.exists()
    with pytest.raises(KeyMissingError, match="genwm keys list"):
        ring.get("a")
    with pytest.raises(KeyMissingError, match="genwm keys new NAME"):
        ring.default()


def test_new_keys_are_saved_for_their_owner_only(path: Path):
    key = Keyring.load(path).new("Studio")
    assert Keyring.load(path).keys() == (key,)
    assert Keyring.load(path).get("STUDIO") == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(file.name for file in path.parent.iterdir()) == ["keyring.json", "keyring.json.lock"]
    with pytest.raises(KeyExistsError, match="genwm keys rotate studio"):
        Keyring.load(path).new("studio")


def test_retired_keys_verify_but_do_not_embed(path: Path):
    ring = Keyring.load(path)
    first, second = ring.new("a"), ring.new("b")
    assert ring.default() == second
    ring.retire("b")
    ring.retire("b")
    again = Keyring.load(path)
    assert again.default() == first
    assert names(again) == ["a", "b"]
    assert [key.name for key in again.keys(include_retired=False)] == ["a"]
    assert again.get("b").secret == second.secret
    with pytest.raises(KeyExistsError, match=r"choose another name\.$"):  # a retired key cannot be rotated
        again.new("b")
    with pytest.raises(KeyMissingError):
        again.retire("c")


def test_rotation_retires_and_names_a_successor(path: Path):
    ring = Keyring.load(path)
    ring.new("cam")
    assert ring.rotate("cam").name == "cam-2"
    assert ring.rotate("cam-2").name == "cam-3"
    with pytest.raises(KeyMissingError, match=r"got 'cam', which is retired; rotate one of cam-3\."):
        ring.rotate("Cam")
    assert [key.name for key in Keyring.load(path).keys(include_retired=False)] == ["cam-3"]
    assert Keyring.load(path).default().name == "cam-3"
    ring.new("cam-4")
    assert ring.rotate("cam-3").name == "cam-5"
    for name in ("cam-4", "cam-5"):
        ring.retire(name)
    with pytest.raises(KeyMissingError, match="make a new key"):
        ring.rotate("cam-5")
    longest = "a" * 64
    ring.new(longest)
    assert ring.rotate(longest).name == "a" * 62 + "-2"


def test_the_environment_names_the_file(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENWM_KEYRING", str(path))
    Keyring.load().new("a")
    assert path.exists()
    monkeypatch.delenv("GENWM_KEYRING")
    assert Keyring.default_path().name == "keyring.json"


def test_a_link_stays_a_link(path: Path, tmp_path: Path):
    link = tmp_path / "link.json"
    link.symlink_to(path)
    Keyring.load(link).new("a")
    assert link.is_symlink()
    assert len(Keyring.load(path).keys()) == 1


def entry(**changes: object) -> dict[str, object]:
    return {"name": "a", "secret": "00" * 32, "created": "2026-01-01T00:00:00+00:00", "retired": False} | changes


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "\udcff",
        "[]",
        "{}",
        '{"schema": "genwm.keyring/2", "keys": []}',
        *(
            json.dumps({"schema": "genwm.keyring/1", "keys": keys})
            for keys in (
                3,
                [3],
                [{"name": "a"}],
                [entry(secret="beef")],
                [entry(secret="zz" * 32)],
                [entry(secret=5)],
                [entry(created="yesterday")],
                [entry(created="2026-01-01")],
                [entry(retired="no")],
                [entry(name="../a")],
                [entry(), entry()],
            )
        ),
    ],
)
def test_broken_files_are_refused_in_one_sentence(path: Path, content: str):
    path.parent.mkdir()
    path.write_bytes(content.encode(errors="surrogateescape"))
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(KeyringError, match=r"^Expected .*, got .*; .*\.$") as caught:
        Keyring.load(path)
    assert "beef" not in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_files_open_to_others_are_refused(path: Path, mode: int):
    Keyring.load(path).new("a")
    path.chmod(mode)
    with pytest.raises(KeyringError, match="chmod 600"):
        Keyring.load(path)


def test_a_folder_is_not_a_keyring(tmp_path: Path):
    with pytest.raises(KeyringError, match="readable keyring"):
        Keyring.load(tmp_path)


@pytest.mark.parametrize(("code", "error", "told"), [(28, DiskFullError, "room for the keyring"),
                                                     (13, KeyringError, "Permission denied")])  # fmt: skip
def test_a_failed_write_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], told: str
):
    ring = Keyring.load(path)
    ring.new("a")
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(error, match=told):
        ring.new("b")
    assert path.read_bytes() == before
    assert names(ring) == ["a"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["keyring.json", "keyring.json.lock"]


def add_keys(path: Path, prefix: str) -> None:
    for number in range(5):
        Keyring.load(path).new(f"{prefix}{number}")


def test_concurrent_writers_lose_nothing(path: Path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_keys, args=(path, prefix)) for prefix in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert set(names(Keyring.load(path))) == {f"{p}{n}" for p in "ab" for n in range(5)}


def test_a_stale_keyring_object_takes_in_what_others_wrote(path: Path):
    one, two = Keyring.load(path), Keyring.load(path)
    one.new("a")
    two.new("b")
    assert names(two) == ["a", "b"]


def test_command(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENWM_KEYRING", str(path))

    def call(*arguments: str) -> tuple[str, str]:
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout, result.stderr

    out, err = call("list")
    assert out == ""
    assert "no keys" in err
    made = json.loads(call("new", "cam", "--json")[0])
    assert made["name"] == "cam"
    assert made["id"] == Keyring.load(path).get("cam").id
    out, err = call("rotate", "cam")
    assert out == ""
    assert "cam-2" in err
    assert "retired" in call("retire", "cam-2")[1]
    listed = json.loads(call("list", "--json")[0])
    assert [(key["name"], key["retired"]) for key in listed] == [("cam", True), ("cam-2", True)]
    assert set(listed[0]) == {"name", "id", "created", "retired"}
    out, err = call("list")
    assert out == ""
    assert "cam-2" in err
    with pytest.raises(KeyExistsError):
        call("new", "cam")
