"""What a caller may be told: a status, a stable code and one sentence."""

from __future__ import annotations

from genwm.errors import GenwmError


class ServiceError(GenwmError):
    """Base of what the service answers on purpose; ``status`` is the HTTP status."""

    code = "bad-request"
    status = 400


class UnauthorisedError(ServiceError):
    code = "unauthorised"
    status = 401


class ForbiddenError(ServiceError):
    code = "forbidden"
    status = 403


class UnknownScanError(ServiceError):
    code = "not-found"
    status = 404


class NotFinishedError(ServiceError):
    code = "not-finished"
    status = 409


class ConflictError(ServiceError):
    code = "conflict"
    status = 409


class UploadTooLargeError(ServiceError):
    code = "too-large"
    status = 413


class UnsupportedBodyError(ServiceError):
    code = "unsupported-body"
    status = 415


class OutsideRootsError(ServiceError):
    code = "outside-roots"
    status = 403


class WebhookRefusedError(ServiceError):
    code = "webhook-refused"


class QuotaError(ServiceError):
    code = "over-quota"
    status = 429


class BusyError(ServiceError):
    code = "queue-full"
    status = 503


class StorageFullError(ServiceError):
    code = "disk-full"
    status = 507


def brief(error: BaseException) -> str:
    """What went wrong in one line, for health and logs: without the statement and the values that SQLAlchemy adds, and
    without the path that an OSError adds."""
    words = getattr(error, "strerror", None) or str(getattr(error, "orig", None) or error)
    return ": ".join([type(error).__name__, *words.strip().splitlines()[:1]])
