"""Tables and transactions: SQLite in one file, or PostgreSQL by URL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError

from detectors.service.errors import ServiceError, StorageFullError

VERSION = "1"
_metadata = MetaData()

meta = Table("meta", _metadata, Column("key", String(32), primary_key=True), Column("value", Text, nullable=False))

tokens = Table(
    "tokens", _metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),  # SHA-256 of the token: 256 random bits need no slow hash
    Column("role", String(16), nullable=False),
    Column("hourly", Integer),
    Column("created", Float, nullable=False),
    Column("revoked", Float),
)  # fmt: skip

sessions = Table(
    "sessions", _metadata,
    Column("digest", String(64), primary_key=True),
    Column("token_id", ForeignKey("tokens.id"), nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("expires", Float, nullable=False),
)  # fmt: skip

# Times are seconds since 1970, UTC. An id begins with the time, so ids sort by age.
scans = Table(
    "scans", _metadata,
    Column("id", String(32), primary_key=True),
    Column("token_id", ForeignKey("tokens.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("uploaded", Boolean, nullable=False),
    Column("reference", String(200)),
    Column("webhook", Text),
    Column("idempotency_key", String(200)),
    Column("request", String(64), nullable=False),
    Column("sha256", String(64)),
    Column("bytes", BigInteger),
    Column("status", String(16), nullable=False),
    Column("verdict", String(32)),
    Column("record", Text),
    Column("settings", String(16)),
    Column("pictures", Text, nullable=False, default="[]"),
    Column("error_code", String(32)),
    Column("error_message", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("faults", Integer, nullable=False, default=0),
    Column("owner", String(32)),
    Column("lease", Float),
    Column("due", Float, nullable=False, default=0.0),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("finished", Float),
    Column("media", Boolean, nullable=False, default=False),  # a browser may be able to play the file
    Column("kept", Boolean, nullable=False, default=True),  # the upload and the pictures are still there
    Column("review", String(16), nullable=False, default="none"),
    Column("action", String(32)),
    UniqueConstraint("token_id", "idempotency_key"),
    Index("scans_queue", "status", "due", "id"),
    Index("scans_review", "review", "id"),
    Index("scans_content", "sha256", "settings"),
)  # fmt: skip

deliveries = Table(
    "deliveries", _metadata,
    Column("id", String(32), primary_key=True),
    Column("scan_id", ForeignKey("scans.id"), nullable=False),
    Column("token_id", ForeignKey("tokens.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due", Float, nullable=False),
    Column("error", Text),
    Column("delivered", Float),
    Index("deliveries_due", "status", "due"),
)  # fmt: skip

log = Table(
    "decision_log", _metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("scan_id", ForeignKey("scans.id"), nullable=False),
    Column("entry", Text, nullable=False),
    Column("hash", String(64), nullable=False),
    Index("decision_log_scan", "scan_id", "number"),
)  # fmt: skip

# A hash chain shows that the log was changed; these keep the application, and whoever reuses it, from doing so. REPLACE
# deletes without telling the trigger that guards against it (unless recursive_triggers is on, each connection's own
# choice), so whatever is not put at the end of the log is refused too.
_APPEND_ONLY = tuple(
    f"CREATE TRIGGER IF NOT EXISTS decision_log_{name} ON decision_log {when} "
    f"BEGIN SELECT RAISE(ABORT, 'the decision log is append-only'); END"
    for name, when in (
        ("no_UPDATE BEFORE UPDATE", ""), ("no_DELETE BEFORE DELETE", ""),
        ("at_its_end BEFORE INSERT", "WHEN NEW.number IS NOT (SELECT coalesce(max(number), 0) + 1 FROM decision_log)"),
    )
)


class Database:
    """An engine with two kinds of transaction. Errors: ServiceError (cannot be opened), StorageFullError."""

    def __init__(self, url: str) -> None:
        try:
            self.engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
        except ModuleNotFoundError as error:
            raise ServiceError(f"Expected the database driver {error.name}, got none installed; run: pip install "
                               '"psycopg[binary]", and start the URL with postgresql+psycopg://') from None
        except (ArgumentError, NoSuchModuleError):
            raise ServiceError("Expected a database URL such as sqlite:////var/lib/genwm/service.sqlite or "
                               "postgresql+psycopg://user@host/name, got something else; check --database") from None
        #: Up to which entry of the decision log `decisions.rates` has counted, and what.
        self.counted: tuple[int, Counter[str]] = 0, Counter()
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        if self.is_sqlite:
            _tune_sqlite(self.engine)
        try:
            self._create()
        except OperationalError as error:
            reason = str(error.orig).strip().splitlines()[0]
            raise ServiceError(f"Expected to open the database {self.engine.url.render_as_string()}, got '{reason}'; "
                               "check --database and its server") from None

    def _create(self) -> None:
        with self.write() as connection:
            if self.is_sqlite:
                _metadata.create_all(connection)
                for statement in _APPEND_ONLY:
                    connection.execute(text(statement))
            else:
                connection.execute(text("SELECT pg_advisory_xact_lock(720140)"))  # several servers starting at once
                _metadata.create_all(connection)
            found = connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar()
            if found is None:
                connection.execute(insert(meta).values(key="schema", value=VERSION))
        if found not in (None, VERSION):
            raise ServiceError(f"Expected a database of schema {VERSION}, got schema {found}; use the version of genwm "
                               "that made it, or a new database")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that no other writer can get in the way of (SQLite: it holds the write lock from the start)."""
        try:
            with self.engine.connect() as plain:
                connection = plain.execution_options(genwm_write=True)
                with connection.begin():
                    yield connection
        except OperationalError as error:
            if "full" in str(error.orig):
                raise StorageFullError("Expected room on the server's disk for its database, got none left; try again "
                                       "later") from None
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Reads what is committed; on SQLite without keeping writers waiting."""
        with self.engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def _tune_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connected(driver: Any, _: object) -> None:
        driver.isolation_level = None  # transactions begin where `begun` says, not where the driver guesses
        cursor = driver.cursor()
        for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        if connection.get_execution_options().get("genwm_write"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


__all__ = ["Database", "IntegrityError", "deliveries", "log", "scans", "sessions", "tokens"]
