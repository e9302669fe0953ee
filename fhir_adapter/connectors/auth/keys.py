"""Our private key for SMART Backend Services: PEM, JWK or JWKS; RS384 or ES384 (SMART App Launch 2.2)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fhir_adapter.connectors.secrets import read_file, read_secret
from fhir_adapter.errors import SiteFileError
from fhir_adapter.site import Auth

__all__ = ["SigningKey", "signing_key"]

_SMALLEST_RSA = 2048
_PLACE = "auth.key_file"


class SigningKey(msgspec.Struct, frozen=True):
    """A private key and how it signs.

    Attributes:
        key: the key.
        kid: its name at the authorization server.
        algorithm: `RS384` or `ES384`.
    """

    key: RSAKey | ECKey
    kid: str
    algorithm: str

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm})"


def _no_key(why: str, error: Exception | None = None) -> SiteFileError:
    problem = SiteFileError(
        f"the key file {why}",
        where=_PLACE,
        remedy="It holds a private RSA (2048 bits or more) or EC P-384 key: PEM, JWK or JWKS.",
    )
    problem.__cause__ = error
    return problem


def _private_jwk(tree: Any, key_id: str | None) -> dict[str, Any]:
    """The private key that is meant, of a JWK or a JWKS."""
    listed = tree.get("keys") if isinstance(tree, dict) and "keys" in tree else [tree]
    if not isinstance(listed, list):
        raise _no_key("holds JSON that is neither JWK nor JWKS")
    private = [
        item for item in listed if isinstance(item, dict) and item.get("kty") in {"RSA", "EC"} and "d" in item
    ]
    if key_id is not None and (len(listed) > 1 or "keys" in tree):
        private = [item for item in private if item.get("kid") == key_id]
        if not private:
            raise _no_key("holds no private key with the kid of `auth.key_id`")
    if not private:
        raise _no_key("holds no private RSA or EC key")
    if len(private) > 1:
        raise _no_key("holds several private keys; `auth.key_id` has to name one")
    return private[0]


def _from_pem(data: bytes, password: str | None) -> RSAKey | ECKey:
    secret = password.encode() if password is not None else None
    native = load_pem_private_key(data, password=secret)
    if isinstance(native, RSAPrivateKey):
        return RSAKey.import_key(data, password=secret)
    if isinstance(native, EllipticCurvePrivateKey):
        return ECKey.import_key(data, password=secret)
    raise _no_key("holds a private key of another kind")


def signing_key(auth: Auth) -> SigningKey:
    """Reads our private key.

    Args:
        auth: of kind `smart-backend`.

    Raises:
        SiteFileError: the file cannot be read or holds no key that SMART Backend Services may use; the message
            holds nothing of the file.
    """
    if auth.key_file is None:
        raise _no_key("is not named")
    data = read_file(auth.key_file, "private key").strip()
    password = read_secret(auth.key_password_env, None, "passphrase") if auth.key_password_env else None
    key: RSAKey | ECKey
    try:
        if data.startswith((b"{", b"[")):
            jwk = _private_jwk(json.loads(data), auth.key_id)
            key = RSAKey.import_key(jwk) if jwk["kty"] == "RSA" else ECKey.import_key(jwk)
        else:
            key = _from_pem(data, password)
    except (ValueError, TypeError, KeyError, RecursionError, JoseError) as error:
        # TypeError: a passphrase is missing, or there is one and the key has none.
        raise _no_key("cannot be used, or its passphrase is missing or wrong", error) from error
    native = key.private_key
    if isinstance(native, RSAPrivateKey):
        if native.key_size < _SMALLEST_RSA:
            raise _no_key(f"holds an RSA key of {native.key_size} bits")
        algorithm = "RS384"
    else:
        if key.as_dict(private=False).get("crv") != "P-384":
            raise _no_key("holds an EC key of another curve than P-384")
        algorithm = "ES384"
    if auth.algorithm not in {None, algorithm}:
        raise _no_key(f"holds a key for {algorithm}, not for the {auth.algorithm} of `auth.algorithm`")
    return SigningKey(key, auth.key_id or key.kid or key.thumbprint(), algorithm)
