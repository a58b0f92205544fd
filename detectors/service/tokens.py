"""API tokens, hashed at rest, and the sessions that reviewers log into with one.

A token is ``genwm_ID_SECRET``: the id finds the row, the SHA-256 of the whole is compared. Roles: ``submit`` hands in
files and sees what it handed in; ``review`` also sees and decides everything.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from detectors.service.database import Database, IntegrityError, sessions, tokens
from detectors.service.errors import ForbiddenError, ServiceError, UnauthorisedError

Role = Literal["submit", "review"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"genwm_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Token:
    """A row without the secret. ``hourly`` is how many scans it may submit in an hour, None without a limit."""

    id: str
    name: str
    role: Role
    hourly: int | None
    created: float
    revoked: float | None

    @property
    def reviews(self) -> bool:
        return self.role == "review"

    @property
    def sees_only(self) -> str | None:
        """Whose scans it sees: None for everybody's."""
        return None if self.reviews else self.id


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in reviewer; ``csrf`` must come back with every form."""

    token: Token
    csrf: str


def new_token(database: Database, name: str, role: Role, hourly: int | None = None) -> str:
    """Makes a token and returns it, the only time that it can be seen. Errors: ServiceError (bad or taken name)."""
    if not _NAME.fullmatch(name):
        raise ServiceError(f"Expected a token name of 1 to 64 letters, digits, '.', '_' or '-', got {name!r}; choose "
                           "another")
    token_id = secrets.token_hex(8)
    token = f"genwm_{token_id}_{secrets.token_urlsafe(32)}"
    try:
        with database.write() as connection:
            connection.execute(insert(tokens).values(
                id=token_id, name=name, digest=_digest(token), role=role, hourly=hourly, created=time.time()))
    except IntegrityError:
        raise ServiceError(f"Expected a new token name, got {name!r}, which is taken (by a revoked token perhaps); "
                           "choose another") from None
    return token


def list_tokens(database: Database) -> list[Token]:
    """All tokens, oldest first, revoked ones too."""
    with database.read() as connection:
        return [_token(row) for row in connection.execute(select(tokens).order_by(tokens.c.created))]


def find_token(database: Database, name: str) -> Token:
    """The token of a name. Errors: ServiceError."""
    with database.read() as connection:
        row = connection.execute(select(tokens).where(tokens.c.name == name)).one_or_none()
    if row is None:
        raise ServiceError(f"Expected the name of a token, got {name!r}; 'genwm serve token list' shows them")
    return _token(row)


def revoke_token(database: Database, name: str) -> Token:
    """Revokes a token and ends its sessions, at once; twice changes nothing. Errors: ServiceError."""
    token = find_token(database, name)
    with database.write() as connection:
        connection.execute(update(tokens).where(tokens.c.id == token.id, tokens.c.revoked.is_(None))
                           .values(revoked=time.time()))
        connection.execute(delete(sessions).where(sessions.c.token_id == token.id))
    return find_token(database, name)


def check_token(database: Database, text: str) -> Token:
    """The token that ``text`` is. Errors: UnauthorisedError."""
    if match := _TOKEN.fullmatch(text):
        with database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == match[1])).one_or_none()
        if row is not None and hmac.compare_digest(row.digest, _digest(text)) and row.revoked is None:
            return _token(row)
    raise _invalid()


def check_valid(connection: Connection, token: Token) -> None:
    """Raises UnauthorisedError where the token has been revoked since it was checked."""
    if connection.execute(select(tokens.c.revoked).where(tokens.c.id == token.id)).scalar() is not None:
        raise _invalid()


def _invalid() -> UnauthorisedError:
    return UnauthorisedError("Expected a valid API token, got none, or one that is unknown or revoked; send "
                             "'Authorization: Bearer TOKEN' with a token from 'genwm serve token new'")


def log_in(database: Database, text: str, lifetime_s: float) -> str:
    """Starts a session for a token that reviews; returns what goes into the cookie.

    Errors: UnauthorisedError, ForbiddenError.
    """
    token = check_token(database, text)
    if not token.reviews:
        raise ForbiddenError("Expected a token of the role 'review', got one that only submits; ask for a review token")
    cookie = secrets.token_urlsafe(32)
    with database.write() as connection:
        connection.execute(delete(sessions).where(sessions.c.expires < time.time()))
        connection.execute(insert(sessions).values(digest=_digest(cookie), token_id=token.id,
                                                   csrf=secrets.token_urlsafe(32), expires=time.time() + lifetime_s))
    return cookie


def session_of(database: Database, cookie: str | None) -> Session | None:
    """The session of a cookie, None where there is none (any more)."""
    if not cookie:
        return None
    query = (select(tokens, sessions.c.csrf).join(sessions, sessions.c.token_id == tokens.c.id)
             .where(sessions.c.digest == _digest(cookie), sessions.c.expires > time.time(), tokens.c.revoked.is_(None)))
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Session(_token(row), row.csrf)


def log_out(database: Database, cookie: str | None) -> None:
    """Ends a session."""
    with database.write() as connection:
        connection.execute(delete(sessions).where(sessions.c.digest == _digest(cookie or "")))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _token(row: Row[Any]) -> Token:
    return Token(row.id, row.name, row.role, row.hourly, row.created, row.revoked)
