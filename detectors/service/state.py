"""What the handlers of one server share."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

from fastapi import Request

from detectors.service.config import MIB, Config
from detectors.service.database import Database
from detectors.service.metrics import Metrics
from detectors.service.runner import Runner
from detectors.service.webhooks import Courier


@dataclass(slots=True)
class State:
    """A running server."""

    config: Config
    database: Database
    metrics: Metrics
    runner: Runner
    courier: Courier
    _deadline: float | None = None

    def stop(self) -> float:
        """Begins nothing more. Returns when all has to be over (by `time.monotonic`): what open connections, scans and
        webhooks take then is the same ``grace_s``, counted from the first call."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self.config.grace_s
            self.runner.stop(self._deadline)
            self.courier.stop()
        return self._deadline

    def problems(self) -> list[str]:
        """Why this server should get no work just now, in sentences."""
        found = []
        if (fault := self.runner.fault) is not None:
            found.append(f"The queue is in trouble: {fault}.")
        if (fault := self.courier.fault) is not None:
            found.append(f"Webhooks are in trouble: {fault}.")
        try:
            with self.database.read() as connection:
                connection.exec_driver_sql("SELECT 1")
        except Exception as error:
            found.append(f"The database does not answer: {type(error).__name__}.")
        if (free := shutil.disk_usage(self.config.folder).free) < self.config.min_free_bytes:
            found.append(f"The disk has {free / MIB:.0f} MiB left.")
        return found


def state_of(request: Request) -> State:
    """The state of the server that a request came to."""
    state = request.app.state.genwm
    assert isinstance(state, State)
    return state
