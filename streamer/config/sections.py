"""The sections of the configuration, one frozen record per component: each key with its bounds, default and meaning."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streamer.protocol.options import SessionOptions

UNIX_PEERS = "unix"
"""Entry of `server.trusted_proxies` for every peer of a Unix socket."""


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections."""


class ModelConfig(Section, frozen=True, kw_only=True):
    """The weights and the device they run on."""

    name: Annotated[str, Meta(min_length=1)] = "tiny.en"
    """Model name (`streamer models list`) or the path of a checkpoint."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic; `auto` takes the fastest that the device computes natively."""
    encoder: Literal["auto", "exact", "8-bit"] = "auto"
    """Products of the encoder; `auto`: in 8 bits where the arithmetic is float32 on a CPU that has such products."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; `auto` is the GPU if there is one."""
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    """CPU threads, each a worker that steps its own sessions; 0: one per physical core. A GPU has one worker."""


class ServerConfig(Section, frozen=True, kw_only=True):
    """The WebSocket and HTTP server."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on: `0.0.0.0` is every IPv4 network, `::` every network of the machine; or `unix:/path`."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """TCP port; 0: any free one."""
    trusted_proxies: tuple[str, ...] = ()
    """Proxies whose `X-Forwarded-…` or `Forwarded` counts: addresses, networks, `unix` for peers of a Unix socket."""
    root_path: str = ""
    """Path under which a proxy serves the daemon and that it leaves in requests, such as `/captions`; empty: none."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may connect, besides the daemon's own; `*` is every page."""
    keys_file: str = ""
    """File of API keys, `NAME KEY` a line; empty: systemd's credential `api-keys` if there is one, else no keys."""
    allow_without_keys: bool = False
    """Serve networks beyond this machine without API keys: every client that reaches the port may use the daemon."""
    token_s: Annotated[int, Meta(ge=10, le=86400)] = 300
    """Seconds that a token of `POST /v1/tokens` lets a page connect; open connections outlast it."""
    tls_certificate: str = ""
    """PEM file of the certificate and its chain; empty: plain HTTP, for this machine or a proxy that speaks TLS."""
    tls_key: str = ""
    """PEM file of its private key."""
    max_frame_bytes: Annotated[int, Meta(ge=1024, le=16777216)] = 1048576
    """Longest WebSocket message, in bytes."""
    idle_s: Annotated[float, Meta(ge=1, le=86400)] = 60.0
    """Seconds without a message after which a connection is closed."""
    max_backlog_s: Annotated[float, Meta(ge=1, le=600)] = 30.0
    """Seconds of audio a session may be ahead of its transcription before reading from it pauses."""
    resume_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """Seconds a session is kept for a client that lost its connection."""
    processes: Annotated[int, Meta(ge=1, le=64)] = 1
    """Gateway processes on the port, each with its part of the sessions; more than 1 need `engines.where`."""
    rooms: bool = False
    """Let a live session show its captions to an audience (`/v1/captions?room=NAME`, `/watch/NAME`)."""
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 20.0
    """Seconds that open sessions get to finish when the daemon stops."""


class WyomingConfig(Section, frozen=True, kw_only=True):
    """The Wyoming protocol for Home Assistant, over TCP: it knows neither keys nor encryption."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is every network of the machine, where anybody may use it."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """TCP port, by convention 10300; 0: off."""


class LimitsConfig(Section, frozen=True, kw_only=True):
    """Bounds of what clients may use; docs/operations.md has the reason of each default."""

    max_connections: Annotated[int, Meta(ge=1, le=1048576)] = 1024
    """WebSockets open at once, those without a session included; one more gets HTTP 503."""
    handshakes_per_s: Annotated[float, Meta(ge=0.1, le=100000)] = 50.0
    """New WebSockets and uploads of one caller (key, else address) each second; more get HTTP 429."""
    requests_per_s: Annotated[float, Meta(ge=0.1, le=100000)] = 100.0
    """Other requests of one caller each second, with a burst of five times as many; more wait, then get HTTP 429."""
    messages_per_s: Annotated[float, Meta(ge=1, le=100000)] = 100.0
    """WebSocket messages of one connection each second, with a burst of ten times as many; more are read later."""
    max_viewers: Annotated[int, Meta(ge=0, le=1048576)] = 1000
    """Viewers of all rooms together, the microphone's among them; more are refused."""
    max_sessions_per_key: Annotated[int, Meta(ge=0, le=65536)] = 0
    """Sessions of one API key at once; 0: as many as there are."""
    max_connection_s: Annotated[float, Meta(ge=1, le=31536000)] = 86400.0
    """Seconds after which a connection is asked to come back and resume, as at a restart."""
    send_timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 20.0
    """Seconds in which a client takes a message; after that its connection is lost."""
    request_timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 10.0
    """Seconds in which a connection sends its request, the next one, or what is left of a refused one."""
    max_unread_events: Annotated[int, Meta(ge=64, le=1048576)] = 4096
    """Events that may wait for a slow client, replaced captions not counted; with one more its session ends."""
    max_upload_bytes: Annotated[int, Meta(ge=1024, le=17179869184)] = 268435456
    """Largest audio file taken over HTTP, in bytes; as much of the temporary folder is used."""
    max_recording_s: Annotated[float, Meta(ge=1, le=604800)] = 14400.0
    """Longest audio of such a file, in seconds: a small file can hold days of silence."""


class SchedulerConfig(Section, frozen=True, kw_only=True):
    """Step intervals, windows, and the number of sessions."""

    step_interval_ms: Annotated[int, Meta(ge=10, le=10000)] = 300
    """New audio after which a session is decoded again, in milliseconds, while there is capacity."""
    max_step_interval_ms: Annotated[int, Meta(ge=10, le=10000)] = 1000
    """The step interval under full load, in milliseconds; beyond it new sessions are refused."""
    max_sessions: Annotated[int, Meta(ge=0, le=65536)] = 0
    """Sessions at once; 0: as many as measurements at the start, when idle, and of the steps of sessions say."""
    kv_reuse: Literal["exact", "committed"] = "committed"
    """After an encoder pass, read all committed words again, or only those of the last one and a half seconds."""
    max_window_s: Annotated[float, Meta(ge=8, le=18)] = 15.0
    """Longest stretch of audio decoded at once, in seconds; then it is cut to its last six (docs/experiments.md)."""


class EnginesConfig(Section, frozen=True, kw_only=True):
    """Where steps are run (docs/scaling.md)."""

    where: Literal["here", "processes", "ray"] = "here"
    """`here`: in this process; `processes`: each in a process of its own, whose loss costs no word; `ray`: on Ray."""
    count: Annotated[int, Meta(ge=0, le=64)] = 0
    """Engines; 0: one for each GPU, on a CPU one for each of `model.threads`; on Ray of the whole cluster."""
    most: Annotated[int, Meta(ge=0, le=64)] = 0
    """Engines on Ray at most: their number follows the load between `count` and this; 0: it stays at `count`."""
    address: str = ""
    """Of the Ray cluster that this machine has joined: `auto`, or HOST:PORT of its head; empty: start one here."""


class ReviseConfig(Section, frozen=True, kw_only=True):
    """The second pass over turns that have ended, for recordings and for sessions with `revise`."""

    model: str = ""
    """Second model, loaded beside the first one and on the same device, with as many mel bands; empty: the first."""
    beams: Annotated[int, Meta(ge=1, le=8)] = 5
    """Hypotheses of the beam search that the second pass makes of a doubtful text; 1: greedy decoding alone."""


class CaptureConfig(Section, frozen=True, kw_only=True):
    """The microphone."""

    device: str = ""
    """Number or part of the name of an input device (`streamer doctor`); empty: the default one."""
    rate: Annotated[int, Meta(ge=0, le=384000)] = 0
    """Capture rate in hertz; 0: the device's own."""


class RecordingConfig(Section, frozen=True, kw_only=True):
    """Recordings of sessions on disk, for replay: audio, text and every decision."""

    folder: str = ""
    """Folder for the recordings of all sessions; empty: none is recorded."""
    max_session_mb: Annotated[int, Meta(ge=1, le=1000000)] = 500
    """Size at which the recording of a session stops, in megabytes; an hour of audio is 230."""
    max_folder_mb: Annotated[int, Meta(ge=1, le=100000000)] = 5000
    """Size of the folder from which on no recording begins, in megabytes."""


class LogConfig(Section, frozen=True, kw_only=True):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe events that are written; transcripts appear at `debug` only."""
    format: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal and `json` elsewhere, with priorities under systemd."""
    spans: bool = False
    """Send a span of each step by OpenTelemetry (extra `otel`), to where `OTEL_EXPORTER_OTLP_ENDPOINT` says."""


class Config(Section, frozen=True, kw_only=True):
    """Everything that can be set, by section."""

    model: ModelConfig = ModelConfig()
    server: ServerConfig = ServerConfig()
    wyoming: WyomingConfig = WyomingConfig()
    limits: LimitsConfig = LimitsConfig()
    session: SessionOptions = SessionOptions()
    scheduler: SchedulerConfig = SchedulerConfig()
    engines: EnginesConfig = EnginesConfig()
    revise: ReviseConfig = ReviseConfig()
    capture: CaptureConfig = CaptureConfig()
    recording: RecordingConfig = RecordingConfig()
    log: LogConfig = LogConfig()
