"""A certificate authority of the tests' own, and a certificate that it issued for signing."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
           "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


@dataclass(frozen=True)
class Certificates:
    """PEM files: ``chain`` (the signing certificate, then the authority's), its ``key``, the ``authority`` alone."""

    chain: Path
    key: Path
    authority: Path


def make_certificates(folder: Path, name: str = "signer", *, age_days: int = 1, key: Any = None) -> Certificates:
    """Writes them to ``folder``; valid for 30 days, of which ``age_days`` are over. ``key``: the private key to
    certify, by default a new one of P-256."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    key = key or ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("authority", authority_key, "authority", authority_key, age_days, is_authority=True)
    leaf = _certificate(name, key, "authority", authority_key, age_days, is_authority=False)
    made = Certificates(*(folder / f"{name}-{part}.pem" for part in ("chain", "key", "authority")))
    made.chain.write_bytes(_pem(leaf) + _pem(authority))
    made.authority.write_bytes(_pem(authority))
    made.key.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return made


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str, key: Any, issuer: str, issuer_key: ec.EllipticCurvePrivateKey,
    age_days: int, *, is_authority: bool,
) -> x509.Certificate:
    start = dt.datetime.now(dt.UTC) - dt.timedelta(days=age_days)
    uses = {"key_cert_sign", "crl_sign"} if is_authority else {"digital_signature"}
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name)).issuer_name(_name(issuer)).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start).not_valid_after(start + dt.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{usage: usage in uses for usage in _USAGES}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if not is_authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "genwm tests"),
                      x509.NameAttribute(NameOID.COMMON_NAME, common)])
