"""Signed provenance: C2PA manifests, which say what made a file and which watermark it carries.

A manifest states that a trained model made the pictures (IPTC's digital source type) and names the watermark in them (a
soft-binding assertion), which leads back to it when the metadata is stripped. It is signed with the user's own
certificate. c2pa-python does the work; nothing here uses a network: no remote manifests, no revocation look-ups.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genwm import __version__
from genwm.errors import InputError, NotFoundError, OutputError, UnsupportedFormatError
from genwm.extras import require

if TYPE_CHECKING:
    from genwm.marking import Mark

__all__ = ["DIGITAL_SOURCE_TYPE", "METADATA", "SOFT_BINDING", "Binding", "Provenance", "check_signer", "read", "sign"]

Status = Literal["absent", "valid", "valid_untrusted", "invalid"]

#: IPTC's digital source type of what a trained model made: https://cv.iptc.org/newscodes/digitalsourcetype/
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
#: What the metadata of a generated file says, for ``write_video``.
METADATA = {
    "comment": f"DigitalSourceType: {DIGITAL_SOURCE_TYPE}",
    "description": "Synthetic video: made by a generative model and marked as such by genwm.",
}
#: Name of our watermark in soft-binding assertions. It is not in C2PA's list of algorithms.
SOFT_BINDING = "genwm.lattice.1"

#: Digital source types of what a model made, wholly or in part.
_GENERATED = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic")
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_STATUSES: dict[str | None, Status] = {"Trusted": "valid", "Valid": "valid_untrusted"}
_ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
_HEAD = 1 << 20  # bytes at either end of a file in which a damaged manifest is looked for


@dataclass(frozen=True, slots=True)
class Binding:
    """A watermark of ours that a manifest names; both 16 hex digits.

    Attributes:
        key_id: public id of the key.
        payload: the 64 bits.
    """

    key_id: str
    payload: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the C2PA manifest of a file says, and whether it holds.

    Attributes:
        status: 'absent': the file has none. 'valid': the file is as it was signed, by a trusted certificate.
            'valid_untrusted': the same, by a certificate that leads to no trusted one; anyone can make such.
            'invalid': the file or its manifest was changed, or the manifest cannot be read.
        signer: organisation and name in the certificate, None where there is none.
        declares_generated: whether it says that a model made the content or part of it; None where it does not say
            what made it, and unless it is valid.
        binding: the watermark of ours that it names, if any.
        reason: for 'invalid', what does not hold, in the words of the C2PA library; '' otherwise.
    """

    status: Status
    signer: str | None = None
    declares_generated: bool | None = None
    binding: Binding | None = None
    reason: str = ""


def read(path: str | os.PathLike[str], *, trust: str | os.PathLike[str] | None = None) -> Provenance:
    """Reads and checks the manifest of a file of any kind; whatever is wrong with the file is 'absent' or 'invalid'.

    Args:
        path: the file. Kinds that hold no manifest (WebM, MKV, text) have none.
        trust: a PEM file of the authorities to trust; without it only those that c2pa-python has built in.

    Errors: NotFoundError for a missing file or trust list, MissingExtraError without c2pa-python.
    """
    c2pa = require("c2pa", "sign")
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise NotFoundError(f"Expected a file at {name}, got none; check the path.")
    settings: dict[str, Any] = dict(_OFFLINE)
    if trust is not None:
        settings["trust"] = {"trust_anchors": _text(trust, "a PEM file of trusted certificates")}
    try:
        with open(name, "rb") as file, c2pa.Context.from_dict(settings) as context:
            reader = c2pa.Reader.try_create(None, file, None, context)
            if reader is None:
                return Provenance("absent")
            with reader:
                state, manifest = reader.get_validation_state(), reader.get_active_manifest()
                results = reader.get_validation_results() or {}
    except c2pa.C2paError.NotSupported:
        return Provenance("absent")
    except (c2pa.C2paError, OSError, ValueError) as error:
        # Of a damaged file: the library does not say whether it came as far as a manifest.
        return Provenance("invalid", reason=_one_line(error)) if _mentions_manifest(name) else Provenance("absent")
    return _judged(state, manifest or {}, results)


def sign(
    path: str | os.PathLike[str],
    cert: str | os.PathLike[str],
    key: str | os.PathLike[str],
    *,
    mark: Mark | None = None,
    generator: str = "",
    algorithm: str | None = None,
) -> None:
    """Puts a signed manifest into a file, which is replaced when that is done.

    Args:
        path: the file, such as an MP4; C2PA knows no WebM or Matroska.
        cert: PEM file with the signing certificate, then those that lead to its authority. C2PA takes no self-signed
            one.
        key: PEM file of its private key, PKCS#8, not encrypted.
        mark: the watermark in the file, which the manifest then names.
        generator: the model that made the content.
        algorithm: es256, es384, es512, ps256, ps384, ps512 or ed25519; default: the one for keys of this kind, ps256
            of RSA's.

    Errors: NotFoundError, InputError for a certificate or key that does not work, UnsupportedFormatError for a
    container without manifests, OutputError, MissingExtraError without c2pa-python.
    """
    from genwm.output import atomic_output

    c2pa = require("c2pa", "sign")
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise NotFoundError(f"Expected a file at {name}, got none; check the path.")
    kind = _kind(name)
    signer = _signer(c2pa, cert, key, algorithm)
    manifest = json.dumps(_manifest(mark, generator))
    try:
        with atomic_output(name, overwrite=True) as part, open(name, "rb") as source, open(part, "w+b") as target, \
                c2pa.Context.from_dict(_OFFLINE) as context:
            c2pa.Builder(manifest, context).sign(signer, kind, source, target)
    except c2pa.C2paError as error:
        raise OutputError(f"Expected to sign {name}, got '{_one_line(error)}'; check that it is a whole file, and the "
                          "certificate in date and one for signing documents.") from None
    except OSError as error:
        raise OutputError(f"Expected to replace {name} by its signed copy, got '{error.strerror}'; check the folder "
                          "and the disk.") from None


def check_signer(
    path: str | os.PathLike[str], cert: str | os.PathLike[str], key: str | os.PathLike[str],
    algorithm: str | None = None,
) -> None:
    """Raises what :func:`sign` would for a file of this name, as far as it can be known before the file is there: a
    picture in memory is signed."""
    import numpy as np

    from genwm.video import write_image

    c2pa = require("c2pa", "sign")
    _kind(os.fspath(path))
    with io.BytesIO() as picture, io.BytesIO() as signed, c2pa.Context.from_dict(_OFFLINE) as context:
        write_image(picture, np.zeros((64, 64, 3), np.uint8), format="jpeg")
        picture.seek(0)
        signer = _signer(c2pa, cert, key, algorithm)
        try:
            c2pa.Builder(json.dumps(_manifest(None, "")), context).sign(signer, "jpeg", picture, signed)
        except c2pa.C2paError as error:
            raise InputError(f"Expected a certificate that can sign, got '{_one_line(error)}' with {os.fspath(cert)}; "
                             "check that it is in date, for signing documents and not signed by itself.") from None


def _kind(name: str) -> str:
    c2pa = require("c2pa", "sign")
    suffix = Path(name).suffix.lower().removeprefix(".")
    if suffix not in c2pa.Builder.get_supported_mime_types():
        raise UnsupportedFormatError(f"Expected a file that can hold a C2PA manifest, such as .mp4, got {name}; "
                                     "rename the output, or do not sign.")
    return suffix


def _signer(c2pa: Any, cert: str | os.PathLike[str], key: str | os.PathLike[str], algorithm: str | None) -> Any:
    if algorithm not in (None, *_ALGORITHMS):
        raise InputError(f"Expected a signing algorithm of {', '.join(_ALGORITHMS)}, got {algorithm}; choose one.")
    chain, secret = _text(cert, "a PEM file of certificates"), _text(key, "a PEM file of a private key")
    for text, path, word in ((chain, cert, "CERTIFICATE"), (secret, key, "PRIVATE KEY")):
        if f"-----BEGIN {word}-----" not in text:
            raise InputError(f"Expected PEM with a {word} in {os.fspath(path)}, got none; convert it, a key to "
                             "unencrypted PKCS#8.")
    public, private = _parsed(chain, secret)
    if private.public_key() != public:  # the C2PA library would sign with any
        raise InputError(f"Expected the key of the first certificate of {os.fspath(cert)}, got another in "
                         f"{os.fspath(key)}; check both files.")
    algorithm = algorithm or _algorithm_of(private)
    try:
        return c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm.encode(), chain.encode(), secret.encode(), None))
    except c2pa.C2paError as error:
        raise InputError(f"Expected a certificate and key for {algorithm}, got '{_one_line(error)}'; check "
                         "both files and the algorithm.") from None


def _parsed(chain: str, secret: str) -> tuple[Any, Any]:
    """The key of the first certificate, and the private key."""
    x509, serialization = (require(f"cryptography.{name}", "sign")
                           for name in ("x509", "hazmat.primitives.serialization"))
    try:
        public = x509.load_pem_x509_certificate(chain.encode()).public_key()
        return public, serialization.load_pem_private_key(secret.encode(), None)
    except (ValueError, TypeError) as error:
        raise InputError(f"Expected a certificate and an unencrypted key in PEM, got '{_one_line(error)}'; check both "
                         "files.") from None


def _algorithm_of(private: Any) -> str:
    """What a key signs with, by its kind and the size of its curve."""
    if hasattr(private, "curve"):
        return {384: "es384", 521: "es512"}.get(private.key_size, "es256")
    return "ps256" if hasattr(private, "key_size") else "ed25519"  # whose keys are of one size


def _text(path: str | os.PathLike[str], what: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except FileNotFoundError:
        raise NotFoundError(f"Expected {what} at {os.fspath(path)}, got no file; check the path.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Expected {what} at {os.fspath(path)}, got '{error}'; check the file.") from None


# --- what a manifest holds


def _manifest(mark: Mark | None, generator: str) -> dict[str, Any]:
    created: dict[str, Any] = {"action": "c2pa.created", "digitalSourceType": DIGITAL_SOURCE_TYPE}
    if generator:
        created["softwareAgent"] = {"name": generator}
    actions = [created]
    # "created": vouched for by the signer; else they count as gathered from elsewhere.
    assertions: list[dict[str, Any]] = [{"label": "c2pa.actions.v2", "data": {"actions": actions}, "created": True}]
    if mark is not None:
        actions.append({"action": "c2pa.watermarked.bound"})
        value = f"{mark.key.id}{mark.payload:016x}"
        assertions.append({"label": "c2pa.soft-binding", "data": {
            "alg": SOFT_BINDING, "blocks": [{"scope": {}, "value": value}]}, "created": True})
    return {"claim_generator_info": [{"name": "genwm", "version": __version__}], "assertions": assertions}


def _judged(state: str | None, manifest: Mapping[str, Any], results: Mapping[str, Any]) -> Provenance:
    status = _STATUSES.get(state, "invalid")
    info = manifest.get("signature_info") or {}
    names = [info[field] for field in ("issuer", "common_name") if info.get(field)]
    signer = ", ".join(dict.fromkeys(names)) or None
    if status == "invalid":
        failures = (results.get("activeManifest") or {}).get("failure") or [{}]
        reason = failures[0].get("explanation") or failures[0].get("code") or "the manifest does not hold"
        return Provenance(status, signer, reason=_one_line(reason))
    assertions = [one for one in manifest.get("assertions") or () if isinstance(one.get("data"), dict)]
    return Provenance(status, signer, _declares_generated(assertions), _binding(assertions))


def _declares_generated(assertions: Iterable[Mapping[str, Any]]) -> bool | None:
    actions = [action for one in assertions if one["label"].startswith("c2pa.actions")
               for action in one["data"].get("actions") or ()]
    types = [str(action["digitalSourceType"]) for action in actions if action.get("digitalSourceType")]
    return any(one.rpartition("/")[2] in _GENERATED for one in types) if types else None


def _binding(assertions: Iterable[Mapping[str, Any]]) -> Binding | None:
    for one in assertions:
        if one["label"].startswith("c2pa.soft-binding") and one["data"].get("alg") == SOFT_BINDING:
            for block in one["data"].get("blocks") or ():
                value = str(block.get("value"))
                if len(value) == 32 and set(value) <= set("0123456789abcdef"):
                    return Binding(value[:16], value[16:])
    return None


def _mentions_manifest(name: str) -> bool:
    """Whether a file that cannot be parsed has the labels of a manifest store at its beginning or end."""
    try:
        with open(name, "rb") as file:
            head = file.read(_HEAD)
            file.seek(max(0, os.fstat(file.fileno()).st_size - _HEAD))
            both = head + file.read(_HEAD)
    except OSError:
        return False
    return b"jumb" in both and b"c2pa" in both


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
