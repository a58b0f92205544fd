"""Prometheus metrics of one server."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from detectors.record import VERDICTS, Record
from detectors.service import scans
from detectors.service.database import Database
from detectors.service.webhooks import RESULTS, lag_s

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Counters since this server started, and gauges of the database, read when they are asked for."""

    def __init__(self, database: Database) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter("genwm_http_requests", "HTTP requests", ("method", "route", "status"),
                                registry=self._registry)
        self.uploaded = Counter("genwm_upload_bytes", "Bytes of files taken in", registry=self._registry)
        self.deliveries = Counter("genwm_webhook_attempts", "Attempts to deliver a webhook", ("result",),
                                  registry=self._registry)
        self._verdicts = Counter("genwm_scans_finished", "Scans finished by this server", ("verdict",),
                                 registry=self._registry)
        self._seconds = Histogram("genwm_scan_seconds", "Seconds that a file took to scan", buckets=_SECONDS,
                                  registry=self._registry)
        # From 0 on, or Prometheus would not see the first of each.
        for verdict in VERDICTS:
            self._verdicts.labels(verdict)
        for result in RESULTS:
            self.deliveries.labels(result)
        self._registry.register(_Gauges(database))

    def finished(self, record: Record, seconds: float) -> None:
        """Counts a record."""
        self._verdicts.labels(record.verdict).inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges:
    """What the database holds, for all servers that share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> list[Metric]:
        return []  # so that registering does not ask the database

    def collect(self) -> Iterator[Metric]:
        counts = scans.counts(self._database)
        for name, label, values in (("status", "scans", scans.STATUSES), ("review", "reviews", scans.REVIEWS)):
            family = GaugeMetricFamily(f"genwm_{label}", f"Scans by {name}", labels=(name,))
            for value in values:
                family.add_metric((value,), counts[name].get(value, 0))
            yield family
        oldest = scans.oldest_waiting(self._database)
        age = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        yield GaugeMetricFamily("genwm_queue_age_seconds", "Age of the scan that has waited longest", value=age)
        yield GaugeMetricFamily("genwm_webhook_lag_seconds", "By how much the oldest due webhook is overdue",
                                value=lag_s(self._database))
