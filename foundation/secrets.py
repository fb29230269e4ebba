"""Secrets of others, sealed before they come into the database (AES-256-GCM, NIST SP 800-38D).

    box = SecretBox.load(Path("/var/lib/anshi/secrets.key"))       # make_key_file(path) makes the first
    cell = Cell("cameras", "password", ("gate",))
    stored = box.seal(cell, "s3cret")                              # "sealed1:<key>:<base64>"
    box.open(cell, stored)                                         # "s3cret"
    Database(url, secrets=box); secrets_of(tx)                     # how repositories come by it

Table, column and row are associated data: what was sealed for one row does not open in another. "" is no
secret and stays "". The key file has a key a line (32 bytes as base64; # begins a comment): the first
seals, all of them open. Raises SecretsError, which names the file or the cell.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from foundation.database import DatabaseError, Transaction

__all__ = [
    "SEALED",
    "Cell",
    "SecretBox",
    "SecretsError",
    "add_key",
    "make_key_file",
    "mode_problem",
    "secrets_of",
]

SEALED = "sealed1:"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_NAME_DIGITS = 8
_HEAD = "# Keys of the secrets in the database: the first seals, all of them open. Back it up.\n"


class SecretsError(DatabaseError):
    """The keys are not there, cannot be used, or do not open what is stored; the text is one line."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a secret lies: table, column and primary key."""

    table: str
    column: str
    row: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.table}.{self.column} of {'/'.join(self.row)}"

    @property
    def associated_data(self) -> bytes:
        return json.dumps([self.table, self.column, *self.row]).encode()


class SecretBox:
    """Keys, and whose they are (`source`, for error texts). Raises ValueError for keys of a wrong length."""

    def __init__(self, keys: Sequence[bytes], source: str = "memory") -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise ValueError(f"keys of {_KEY_BYTES} bytes are needed, one at least")
        self.source = source
        self._ciphers = {_name(key): AESGCM(key) for key in keys}
        self._first = _name(keys[0])

    @classmethod
    def load(cls, path: Path) -> Self:
        try:
            text = path.read_text(encoding="ascii")
        except FileNotFoundError:
            raise SecretsError(
                f"key file {path} is missing: put it back from where it was backed up"
            ) from None
        except OSError as error:
            raise SecretsError(f"key file {path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SecretsError(f"key file {path} is no text of keys") from None
        keys = []
        for number, line in enumerate(text.splitlines(), 1):
            word = line.partition("#")[0].strip()
            if not word:
                continue
            try:
                keys.append(base64.b64decode(word, validate=True))
            except binascii.Error:
                keys.append(b"")
            if len(keys[-1]) != _KEY_BYTES:
                raise SecretsError(f"key file {path}: line {number} is not {_KEY_BYTES} bytes in base64")
        if not keys:
            raise SecretsError(f"key file {path} has no key in it")
        return cls(keys, str(path))

    def seal(self, cell: Cell, secret: str) -> str:
        """What may be stored in that cell."""
        if not secret:
            return ""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, secret.encode(), cell.associated_data)
        return f"{SEALED}{self._first}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, cell: Cell, stored: str | None) -> str:
        """What was sealed for that cell. Raises SecretsError."""
        if not stored:
            return ""
        name, body = _parts(cell, stored)
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise SecretsError(
                f"key file {self.source} is not the one the database was sealed with: "
                f"{cell} needs key {name}, it has {', '.join(self._ciphers)}"
            )
        try:
            return cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], cell.associated_data).decode()
        except (InvalidTag, ValueError):
            raise SecretsError(
                f"{cell} was altered, or was sealed for another row: "
                f"key {name} of {self.source} does not open it"
            ) from None

    def old(self, stored: str | None) -> bool:
        """Whether it was sealed with another key than the first."""
        return bool(stored) and not str(stored).startswith(f"{SEALED}{self._first}:")


def _parts(cell: Cell, stored: str) -> tuple[str, bytes]:
    name, colon, body = stored.removeprefix(SEALED).partition(":")
    if not stored.startswith(SEALED) or not colon:
        raise SecretsError(f"{cell} is not sealed: somebody wrote it past this service")
    try:
        return name, base64.b64decode(body, validate=True)
    except ValueError:
        raise SecretsError(f"{cell} was altered: it is no base64") from None


def _name(key: bytes) -> str:
    """Tells keys apart without telling anything of them."""
    return hashlib.sha256(b"anshi key name" + key).hexdigest()[:_KEY_NAME_DIGITS]


def secrets_of(tx: Transaction) -> SecretBox:
    """The box of the database that this transaction is on."""
    box = tx.info.get("secrets")
    if not isinstance(box, SecretBox):
        raise SecretsError("this process has no keys: its database was opened without them")
    return box


def make_key_file(path: Path) -> bool:
    """Write a file with a new key, for nobody else to read; False when there is one already."""
    return _write(path, _HEAD + _new_key(), replacing=False)


def add_key(path: Path) -> None:
    """Put a new key before those that the file has."""
    SecretBox.load(path)
    _write(path, _HEAD + _new_key() + path.read_text(encoding="ascii").removeprefix(_HEAD), replacing=True)


def mode_problem(path: Path) -> str | None:
    """One line when others than its owner may read or write the file."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return f"{path} has mode {mode:04o}: others than its owner may use it (chmod 600)"
    return None


def _new_key() -> str:
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode() + "\n"


def _write(path: Path, text: str, *, replacing: bool) -> bool:
    """Never half a file, never readable by others for a moment, and on the disk before anything is sealed."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # of mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                out.write(text)
                out.flush()
                os.fsync(descriptor)
            if replacing:
                os.replace(name, path)
                return True
            os.link(name, path)  # unlike a renaming it fails where the file is there already
        except FileExistsError:
            return False
        finally:
            if os.path.exists(name):
                os.unlink(name)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True
    except OSError as error:
        raise SecretsError(f"key file {path} cannot be written: {error.strerror}") from None
