"""C2PA manifests: what was signed is read back, and nothing that was changed passes for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

c2pa = pytest.importorskip("c2pa")

from genwm import extras, provenance  # noqa: E402
from genwm.errors import (  # noqa: E402
    GenwmError,
    InputError,
    MissingExtraError,
    NotFoundError,
    OutputError,
    UnsupportedFormatError,
)
from genwm.marking import Mark  # noqa: E402
from genwm.provenance import Binding, Provenance  # noqa: E402
from genwm.video import probe  # noqa: E402
from tests.certificates import Certificates, make_certificates  # noqa: E402
from tests.clips import KEY, PAYLOAD, make_clip  # noqa: E402

MARK = Mark(KEY, PAYLOAD)
BINDING = Binding(KEY.id, f"{PAYLOAD:016x}")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "plain.mp4"
    make_clip(path, width=96, height=64, frames=8)
    return path


@pytest.fixture
def signed(tmp_path: Path, plain: Path, certificates: Certificates) -> Path:
    path = tmp_path / "signed.mp4"
    shutil.copy(plain, path)
    provenance.sign(path, certificates.chain, certificates.key, mark=MARK, generator="a model")
    return path


def test_what_was_signed_is_read_back(signed: Path, plain: Path, certificates: Certificates) -> None:
    expected = Provenance("valid_untrusted", "genwm tests, signer", True, BINDING)
    assert provenance.read(signed) == expected
    trusted = provenance.read(signed, trust=certificates.authority)
    assert trusted == Provenance("valid", "genwm tests, signer", True, BINDING)
    assert probe(signed).duration_s == probe(plain).duration_s
    assert [path.name for path in signed.parent.iterdir() if path.is_file()] == ["signed.mp4"]


def test_another_library_call_finds_the_source_type_and_the_soft_binding(signed: Path) -> None:
    with c2pa.Reader(str(signed)) as reader:
        stated = reader.get_active_manifest()["assertions"]
    assert all(one["created"] for one in stated)  # vouched for by the signer, not gathered
    assertions = {one["label"]: one["data"] for one in stated}
    created, watermarked = assertions["c2pa.actions.v2"]["actions"]
    assert created["action"] == "c2pa.created"
    assert created["digitalSourceType"] == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert created["softwareAgent"] == {"name": "a model"}
    assert watermarked["action"] == "c2pa.watermarked.bound"
    assert assertions["c2pa.soft-binding"] == {
        "alg": "genwm.lattice.1", "blocks": [{"scope": {}, "value": f"{KEY.id}{PAYLOAD:016x}"}]}


def test_trust_in_another_authority_is_none(tmp_path: Path, signed: Path) -> None:
    other = make_certificates(tmp_path, "other")
    assert provenance.read(signed, trust=other.authority).status == "valid_untrusted"


def test_a_manifest_without_a_mark_names_none(tmp_path: Path, plain: Path, certificates: Certificates) -> None:
    path = tmp_path / "signed.mov"
    make_clip(path, width=96, height=64, frames=8)
    provenance.sign(path, certificates.chain, certificates.key)
    assert provenance.read(path) == Provenance("valid_untrusted", "genwm tests, signer", True, None)


def _pictures(data: bytes) -> int:
    return data.index(b"mdat") + 40


def _payload(data: bytes) -> int:
    return data.index(f"{KEY.id}{PAYLOAD:016x}".encode()) + 31


def _claim(data: bytes) -> int:
    return data.index(b"trainedAlgorithmicMedia")


@pytest.mark.parametrize("place", [_pictures, _payload, _claim])
def test_any_change_is_invalid(signed: Path, place: Any, certificates: Certificates) -> None:
    data = bytearray(signed.read_bytes())
    data[place(data)] ^= 1
    signed.write_bytes(data)
    found = provenance.read(signed, trust=certificates.authority)
    assert (found.status, found.declares_generated, found.binding) == ("invalid", None, None)
    assert found.reason


def test_damaged_manifests_and_files_are_invalid_or_absent_and_never_an_error(signed: Path) -> None:
    data = signed.read_bytes()
    start = data.index(b"c2cl")  # the claim's box
    for length in (200, 2000):
        signed.write_bytes(data[:start] + bytes(length) + data[start + length:])
        assert provenance.read(signed).status == "invalid"
    for length in range(0, len(data), max(1, len(data) // 40)):
        signed.write_bytes(data[:length])
        assert provenance.read(signed).status in ("invalid", "absent")


def test_the_manifest_is_gone_after_re_encoding(tmp_path: Path, signed: Path) -> None:
    from genwm.video import read_planes, write_video

    copy = tmp_path / "copy.mp4"
    write_video(copy, read_planes(signed), fps=25)
    assert provenance.read(copy) == Provenance("absent")


def test_files_without_a_manifest(tmp_path: Path, plain: Path) -> None:
    for name, data in (("a.txt", b"words"), ("empty.mp4", b""), ("noise.mp4", bytes(range(256)))):
        (tmp_path / name).write_bytes(data)
        assert provenance.read(tmp_path / name) == Provenance("absent")
    make_clip(tmp_path / "a.webm", width=96, height=64, frames=3, codec="vp9", preset=None)
    assert provenance.read(tmp_path / "a.webm") == Provenance("absent")
    assert provenance.read(plain) == Provenance("absent")


def test_a_file_is_known_by_what_it_holds_not_by_its_name(tmp_path: Path, signed: Path) -> None:
    renamed = tmp_path / "renamed.bin"
    shutil.copy(signed, renamed)
    assert provenance.read(renamed).status == "valid_untrusted"


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"path": "none.mp4"}, NotFoundError, "Expected a file at"),
        ({"cert": "none.pem"}, NotFoundError, "PEM file of certificates"),
        ({"key": "CHAIN"}, InputError, "PRIVATE KEY"),
        ({"key": "OTHER"}, InputError, "Expected the key of the first certificate"),
        ({"algorithm": "rot13"}, InputError, "signing algorithm"),
        ({"algorithm": "ed25519"}, InputError, "certificate and key for ed25519"),
        ({"path": "a.mkv"}, UnsupportedFormatError, "such as .mp4"),
        ({"path": "broken.mp4"}, OutputError, "Expected to sign"),
        ({"cert": "EXPIRED", "key": "EXPIRED KEY"}, OutputError, "in date"),
    ],
)
def test_signing_says_what_is_wrong_and_leaves_the_file(
    tmp_path: Path, plain: Path, certificates: Certificates, change: dict[str, str], error: type[GenwmError], words: str
) -> None:
    other = make_certificates(tmp_path, "other")
    expired = make_certificates(tmp_path, "expired", age_days=40)
    for name in ("a.mp4", "a.mkv"):
        shutil.copy(plain, tmp_path / name)
    (tmp_path / "broken.mp4").write_bytes(plain.read_bytes()[:500])
    names = {"CHAIN": str(certificates.chain), "OTHER": str(other.key), "EXPIRED": str(expired.chain),
             "EXPIRED KEY": str(expired.key)}
    call = {"path": "a.mp4", "cert": str(certificates.chain), "key": str(certificates.key), **change}
    call = {name: names.get(value, value) for name, value in call.items()}
    path = tmp_path / call.pop("path")
    before = path.read_bytes() if path.exists() else None
    files = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=words):
        provenance.sign(path, **call, mark=MARK)
    assert (path.read_bytes() if path.exists() else None) == before
    assert sorted(tmp_path.iterdir()) == files


def test_the_signer_is_checked_before_there_is_a_file(tmp_path: Path, certificates: Certificates) -> None:
    provenance.check_signer(tmp_path / "later.mp4", certificates.chain, certificates.key)
    with pytest.raises(UnsupportedFormatError):
        provenance.check_signer(tmp_path / "later.webm", certificates.chain, certificates.key)
    with pytest.raises(NotFoundError):
        provenance.check_signer(tmp_path / "later.mp4", tmp_path / "none.pem", certificates.key)
    expired = make_certificates(tmp_path, "expired", age_days=40)
    with pytest.raises(InputError, match=r"Expected a certificate that can sign, got '.*' with .*; check that it"):
        provenance.check_signer(tmp_path / "later.mp4", expired.chain, expired.key)


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1()),
            ec.generate_private_key(ec.SECP521R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["rsa", "p-384", "p-521", "ed25519"])
def test_every_kind_of_key_signs_without_a_word_of_its_algorithm(tmp_path: Path, plain: Path, key: Any) -> None:
    made = make_certificates(tmp_path, key=key)
    path = Path(shutil.copy(plain, tmp_path / "a.mp4"))
    provenance.check_signer(path, made.chain, made.key)
    provenance.sign(path, made.chain, made.key, mark=MARK)
    assert provenance.read(path, trust=made.authority).status == "valid"


def test_reading_says_which_trust_list_is_missing(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="trusted certificates"):
        provenance.read(signed, trust=tmp_path / "none.pem")
    with pytest.raises(NotFoundError, match="Expected a file"):
        provenance.read(tmp_path / "none.mp4")


def test_the_extra_is_named(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "genwm\[sign\]"'):
        provenance.read(signed)
