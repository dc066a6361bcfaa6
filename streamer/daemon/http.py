"""The HTTP server of a process that serves: at an entrance, and within the open files that the system allows."""

from __future__ import annotations

import functools

import msgspec
import structlog
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from streamer.access.early_keys import shows_key
from streamer.access.open_files import Shares, needed_files, shared_out
from streamer.config import Config, LimitsConfig
from streamer.daemon.entrance import Entrance
from streamer.host.open_files import allow_all_files
from streamer.server.http_server import HttpServer
from streamer.telemetry.metrics import CertificateMetrics

log = structlog.get_logger()


def fitting(limits: LimitsConfig) -> Shares:
    """What fits into the open files that the system allows this process; the log says if it is less than configured."""
    n_files = allow_all_files()
    shares = shared_out(limits, n_files)
    if shares.limits != limits:
        log.warning(
            "few_open_files",
            allowed=n_files,
            needed=needed_files(limits),
            max_connections=shares.limits.max_connections,
            max_viewers=shares.limits.max_viewers,
            remedy="ulimit -n 65536 (LimitNOFILE= of a unit), or smaller limits.max_connections and limits.max_viewers",
        )
    return shares


def http_server(
    app: ASGIApp, config: Config, shares: Shares, entrance: Entrance, registry: CollectorRegistry
) -> HttpServer:
    """
    Make the server of an application, and publish when its certificate expires, if it has one.

    Args:
        app: The application.
        config: `server` and `limits` are read.
        shares: Connections that fit.
        entrance: The server closes its sockets.
        registry: Of the metrics of sockets and of the certificate.
    """
    certificate = entrance.certificate
    if certificate.context is not None:
        CertificateMetrics(registry, lambda: certificate.expires_at)
    return HttpServer(
        app,
        msgspec.structs.replace(config, limits=shares.limits),
        entrance.sockets,
        certificate.context,
        registry,
        max_waiting=shares.max_waiting,
        knows=functools.partial(shows_key, keys=entrance.keys),
    )
