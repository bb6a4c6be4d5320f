"""The metrics, from the daemon's status; labels are names of the file, and names that the daemon has."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

TROUBLE = frozenset({"throttled", "accept_failed", "closed"})
"""States of a service that cannot serve."""

_FROM_THE_BEGINNING = {"reloaded": 0, "reload_failed": 0}
"""Events that are counted before there is one: an increase from nothing to one would be none."""

_COUNTED = {
    "refused": ("ucspid_connections_refused", "Connections that got no program, by reason.", "reason"),
    "failed": ("ucspid_connections_failed", "Connections whose program could not be started.", "reason"),
    "ended": ("ucspid_sessions_ended", "Programs that have ended, by how.", "outcome"),
}
_MEASURED = {
    "queue_wait": ("ucspid_queue_wait_seconds", "From accept to a launcher."),
    "start": ("ucspid_start_seconds", "From accept to the running program."),
    "duration": ("ucspid_session_duration_seconds", "From accept to the program's end."),
}
_LEVELS = {
    "live": ("ucspid_connections_live", "Connections that live."),
    "max_connections": ("ucspid_connections_limit", "Connections that may live."),
    "waiting": ("ucspid_clients_waiting", "Clients that wait in the backlog, or for a slot or a launcher."),
}


class StatusCollector:
    """A collector of prometheus_client for one status."""

    def __init__(self, status: dict[str, Any]) -> None:
        """Take the daemon's answer."""
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        yield from self._daemon()
        yield from self._services()
        for name, (family, text) in _MEASURED.items():
            yield self._histogram(family, text, name)

    def _daemon(self) -> Iterator[Metric]:
        status, now = self._status, time.time()
        build = GaugeMetricFamily("ucspid_build_info", "The version.", labels=["version"])
        build.add_metric([status["version"]], 1)
        yield build
        totals = status["totals"]
        for name, text, value in (
            ("ucspid_start_time_seconds", "When the daemon began.", now - status["uptime"]),
            ("ucspid_loop_start_time_seconds", "When its event loop began.", now - status["loop_uptime"]),
            ("ucspid_config_generation", "The number of the configuration in force.", status["generation"]),
            ("ucspid_daemon_connections_live", "Connections of all services.", totals["live"]),
            ("ucspid_daemon_connections_limit", "Connections that may live.", totals["max_connections"]),
            ("ucspid_networks_denied", "Networks that operators deny.", status["denied"]),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily("ucspid_log_dropped", "Log lines lost.", value=status["log_dropped"])
        events = CounterMetricFamily(
            "ucspid_master_events", "Events of the master since the event loop began.", labels=["event"]
        )
        for event, count in (_FROM_THE_BEGINNING | status["master_events"]).items():
            events.add_metric([event], count)
        yield events
        deaths = CounterMetricFamily(
            "ucspid_process_deaths", "Processes that died and were replaced.", labels=["role"]
        )
        for role, count in status["process_deaths"].items():
            deaths.add_metric([role], count)
        yield deaths
        outcomes = CounterMetricFamily(
            "ucspid_dns_questions", "Questions that name servers were asked.", labels=["outcome"]
        )
        for outcome, count in status["dns"].items():
            outcomes.add_metric([outcome], count)
        yield outcomes
        yield from self._files()

    def _files(self) -> Iterator[Metric]:
        """Yield what is about rules files and certificates; two services may read one file differently."""
        in_force: dict[str, int] = {}
        ages: dict[str, float] = {}
        for file in self._status["rules_files"]:
            path = file["path"]
            in_force[path] = min(0 if file["problem"] else 1, in_force.get(path, 1))
            if file["age"] is not None:
                ages[path] = max(file["age"], ages.get(path, file["age"]))
        yield _by_path("ucspid_rules_file_in_force", "Whether a rules file is in force as it is.", in_force)
        yield _by_path("ucspid_rules_file_age_seconds", "Since a rules file in force was last written.", ages)
        ends = GaugeMetricFamily(
            "ucspid_certificate_end_time_seconds",
            "When the first certificate of a service ends.",
            labels=["service"],
        )
        for certificate in self._status["certificates"]:
            end = datetime.fromisoformat(certificate["not_after"]).timestamp()
            ends.add_metric([certificate["service"]], end)
        yield ends

    def _services(self) -> Iterator[Metric]:
        services = self._status["services"]
        accepted = CounterMetricFamily(
            "ucspid_connections_accepted", "Connections accepted.", labels=["service"]
        )
        cpu = CounterMetricFamily(
            "ucspid_program_cpu_seconds", "Processor time of programs that have ended.", labels=["service"]
        )
        able = GaugeMetricFamily(
            "ucspid_service_able", "Whether a service can serve: 0 in trouble.", labels=["service"]
        )
        for service in services:
            accepted.add_metric([service["name"]], service["accepted"])
            cpu.add_metric([service["name"]], service["timings"]["cpu"])
            able.add_metric([service["name"]], 0 if service["state"] in TROUBLE else 1)
        yield from (accepted, cpu, able)
        for name, (family, text) in _LEVELS.items():
            gauge = GaugeMetricFamily(family, text, labels=["service"])
            for service in services:
                gauge.add_metric([service["name"]], service[name])
            yield gauge
        for name, (family, text, label) in _COUNTED.items():
            counter = CounterMetricFamily(family, text, labels=["service", label])
            for service in services:
                for reason, count in service[name].items():
                    counter.add_metric([service["name"], reason], count)
            yield counter

    def _histogram(self, family: str, text: str, name: str) -> Metric:
        histogram = HistogramMetricFamily(family, text, labels=["service"])
        for service in self._status["services"]:
            timing = service["timings"][name]
            bounds = [*map(str, timing["bounds"]), "+Inf"]
            buckets = list(zip(bounds, accumulate(timing["counts"]), strict=True))
            histogram.add_metric([service["name"]], buckets, timing["sum"])
        return histogram


def _by_path(family: str, text: str, values: Mapping[str, float]) -> Metric:
    gauge = GaugeMetricFamily(family, text, labels=["path"])
    for path, value in values.items():
        gauge.add_metric([path], value)
    return gauge
