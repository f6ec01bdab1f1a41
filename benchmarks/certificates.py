"""A chain of certificates as public servers have it: RSA, and an authority between the two ends."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

_ADDRESS = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def write_chain(folder: Path) -> tuple[Path, Path]:
    """Two files: the key, the certificate and the authority's that a server sends; the root."""
    names = [_name(each) for each in ("root", "authority", "server")]
    keys = [generate_private_key(public_exponent=65537, key_size=2048) for _ in names]
    root = _certificate(names[0], keys[0], issuer=names[0], signed_by=keys[0])
    authority = _certificate(names[1], keys[1], issuer=names[0], signed_by=keys[0])
    server = _certificate(names[2], keys[2], issuer=names[1], signed_by=keys[1], authority=False)
    key = keys[2].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    sent, trusted = folder / "server.pem", folder / "root.pem"
    sent.write_bytes(key + server + authority)
    trusted.write_bytes(root)
    return sent, trusted


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _certificate(
    name: x509.Name,
    key: RSAPrivateKey,
    *,
    issuer: x509.Name,
    signed_by: RSAPrivateKey,
    authority: bool = True,
) -> bytes:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        subject_name=name,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(days=1),
        not_valid_after=now + timedelta(days=1),
    )
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signed_by.public_key())
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    basic = x509.BasicConstraints(ca=authority, path_length=None)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = builder.add_extension(issued_by, critical=False).add_extension(own, critical=False)
    builder = builder.add_extension(basic, critical=True).add_extension(usage, critical=True)
    if not authority:
        names = x509.SubjectAlternativeName([_ADDRESS])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signed_by, hashes.SHA256()).public_bytes(Encoding.PEM)
