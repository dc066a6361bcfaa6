"""All metrics of the daemon, in a registry that callers pass; cheap enough to be always on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

MS_BUCKETS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500)
RECENT = 100_000
"""Observations that are kept exactly, for evaluation and benchmarks."""
SECOND_BUCKETS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.9, 1.2, 1.8, 2.5, 4, 6, 10, 20)


def _milliseconds(name: str, about: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, about, buckets=MS_BUCKETS, registry=registry)


PassKind = Literal["verify", "decode"]
"""`verify` runs context and drafts, `decode` one token of each row."""
RevisionOutcome = Literal["revised", "same", "dropped", "failed"]
"""`revised` changed the text of its turn, `same` did not; `dropped`: there was no room, or nobody to read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderPass:
    """One pass of the decoder, from its input to the choice of its tokens."""

    kind: PassKind
    seconds: float
    n_rows: int
    """Rows of the pass."""
    n_drafted: int = 0
    """Draft tokens that the pass verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Device time of the parts of one engine step, seconds."""

    encode_s: float
    """The encoder's pass over all windows of the step, with the keys and values of cross-attention."""
    detect_s: float | None
    """Language detection; None where no row asked for it."""
    passes: Sequence[DecoderPass]
    """In the order in which they ran."""
    align_s: float
    """Times of the tokens: attention of the alignment heads and dynamic time warping."""
    rows: Sequence[tuple[float, int]]
    """Of each row: seconds of the passes until it was done, and its newly decided tokens."""


class StepObserver(Protocol):
    """Is told of every step of an engine."""

    def stepped(self, times: StepTimes) -> None:
        """Count one step that succeeded."""


class EngineMetrics:
    """Metrics of the engines. The names of the first four are fixed: dashboards use them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._encoder = _milliseconds(
            "whisper_encoder_forward_latency_ms",
            "Milliseconds of one encoder pass over all windows of a step.",
            registry,
        )
        self._token = _milliseconds(
            "whisper_decoder_token_latency_ms",
            "Milliseconds of the decoder for one newly decided token of a row: all passes until the row was done, "
            "shared among its tokens that the step before did not have at the same place.",
            registry,
        )
        self._attention = Gauge(
            "whisper_attention_memory_bytes",
            "Bytes of keys and values of audio: slots of cross-attention with their silence tail, and cached windows "
            "(encoder and cross-attention). Buffers of CUDA graphs are not counted.",
            registry=registry,
        )
        self._kv = Gauge(
            "whisper_kv_cache_size_bytes",
            "Bytes of keys and values of text (self-attention): preallocated slots, and settled text of windows.",
            registry=registry,
        )
        self._pass = Histogram(
            "whisper_decoder_pass_latency_ms",
            "Milliseconds of one decoder pass of a step, by kind: verify runs context and drafts, decode one token of "
            "each row.",
            ["kind"],
            buckets=MS_BUCKETS,
            registry=registry,
        )
        for kind in get_args(PassKind):
            self._pass.labels(kind)  # published from the first scrape on
        self._detection = _milliseconds(
            "whisper_language_detection_latency_ms",
            "Milliseconds of language detection in a step with rows that ask for it.",
            registry,
        )
        self._alignment = _milliseconds(
            "whisper_alignment_latency_ms", "Milliseconds of the times of all tokens of a step.", registry
        )
        self._passes = Counter("streamer_decoder_passes", "Decoder passes run.", registry=registry)
        self._rows = Counter("streamer_decoder_rows", "Rows in those passes.", registry=registry)
        self._drafted = Counter("streamer_draft_tokens", "Draft tokens offered for verification.", registry=registry)

        self._recent_token_ms: deque[float] = deque(maxlen=RECENT)
        self._recent_encoder_ms: deque[float] = deque(maxlen=RECENT)

    def recent_encoder_ms(self) -> list[float]:
        """The newest observations of the encoder latency, milliseconds a pass."""
        return list(self._recent_encoder_ms)

    def recent_token_ms(self) -> list[float]:
        """The newest observations of the token latency, milliseconds: exact where a histogram has buckets."""
        return list(self._recent_token_ms)

    def forget_recent(self) -> None:
        """Drop the recent observations; the published metrics continue."""
        self._recent_token_ms.clear()
        self._recent_encoder_ms.clear()

    def cache_sizes(self, sizes: Callable[[], Iterable[tuple[int, int]]]) -> None:
        """Set the function that reads the cache sizes of all engines: bytes of text, bytes of audio of each."""
        self._kv.set_function(lambda: sum(text for text, _ in sizes()))
        self._attention.set_function(lambda: sum(audio for _, audio in sizes()))

    def stepped(self, times: StepTimes) -> None:
        """Count one step that succeeded."""
        self._encoder.observe(times.encode_s * 1e3)
        self._recent_encoder_ms.append(times.encode_s * 1e3)
        if times.detect_s is not None:
            self._detection.observe(times.detect_s * 1e3)
        for each in times.passes:
            self._count_pass(each)
        self._alignment.observe(times.align_s * 1e3)
        for seconds, n_new in times.rows:
            self._count_tokens(seconds, n_new)

    def _count_pass(self, each: DecoderPass) -> None:
        self._pass.labels(each.kind).observe(each.seconds * 1e3)
        self._passes.inc()
        self._rows.inc(each.n_rows)
        self._drafted.inc(each.n_drafted)

    def _count_tokens(self, seconds: float, n_new: int) -> None:
        """One observation for each newly decided token of a row; a row that only confirms its draft has none."""
        for _ in range(n_new):
            self._token.observe(seconds / n_new * 1e3)
            self._recent_token_ms.append(seconds / n_new * 1e3)


class EngineGauge(Collector):
    """
    A gauge of engines, with a series of each engine that there is whenever it is read.

    Args:
        name: Of the metric.
        about: What it tells.
        registry: Where it is published.
    """

    def __init__(self, name: str, about: str, registry: CollectorRegistry) -> None:
        self._name, self._about = name, about
        self._read: Callable[[], Mapping[str, float]] = dict
        registry.register(self)

    def set_function(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Set the function that tells the value of each engine, by name."""
        self._read = read

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Collect a sample of each engine."""
        family = GaugeMetricFamily(self._name, self._about, labels=["engine"])
        for name, value in self._read().items():
            family.add_metric([name], float(value))
        yield family


class ServiceMetrics:
    """Metrics of the sessions and of their steps."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        # sessions
        self.sessions = gauge("streamer_sessions", "Open sessions.")
        self.capacity = gauge("streamer_capacity_sessions", "Sessions admitted at most.")
        self.speaking = gauge("streamer_speaking_sessions", "Sessions with an open turn.")
        self.detached = gauge("streamer_detached_sessions", "Sessions kept for a client that lost its connection.")
        self.stalled = gauge("streamer_stalled_sessions", "Sessions with voice but no new text for many seconds.")
        self.opened = counter("streamer_sessions_opened", "Sessions opened.")
        self.refused = counter("streamer_sessions_refused", "Sessions refused for lack of capacity.")
        self.resumed = counter("streamer_sessions_resumed", "Sessions taken over by a new connection.")
        self.ended = counter("streamer_sessions_ended", "Sessions that are over.", ["outcome"])
        self.audio = counter("streamer_audio_seconds", "Seconds of audio received.")
        self.words = counter("streamer_words", "Words made stable.")
        self.unread = gauge("streamer_unread_events", "Events that wait for the slowest client.")
        self.backlog = gauge("streamer_backlog_seconds", "Seconds of audio that wait in the worst session.")
        self.lag = gauge("streamer_lag_seconds", "Seconds of audio that no step has seen in the worst live session.")
        self.commit = histogram(
            "streamer_commit_latency_seconds",
            "Seconds from the end of a word of a live session to its commit.",
            buckets=SECOND_BUCKETS,
        )
        self.recordings_stopped = counter(
            "streamer_recordings_stopped", "Recordings that could not begin or are not whole.", ["reason"]
        )
        # steps
        self.queue = gauge("streamer_step_queue", "Sessions due for a step.")
        self.interval = gauge("streamer_step_interval_seconds", "New audio until a session's next step, worst worker.")
        self.listen = histogram(
            "streamer_listen_latency_ms", "Milliseconds of mel and voice detection of one round.", buckets=MS_BUCKETS
        )
        self.step = histogram("streamer_step_latency_ms", "Milliseconds of one engine step.", buckets=MS_BUCKETS)
        self.batch = histogram("streamer_step_batch", "Rows of one engine step.", buckets=(1, 2, 4, 8, 16, 32, 64))
        self.failures = counter("streamer_step_failures", "Steps of a session that failed.")
        self.restarts = counter("streamer_engine_restarts", "Engines built again after their device failed.")
        self.engine_alive = EngineGauge(
            "streamer_engine_alive", "Whether an engine that there shall be answers, 0 or 1.", registry
        )
        self.engine_memory = EngineGauge(
            "streamer_engine_resident_memory_bytes", "Memory of an engine process that is in RAM.", registry
        )
        self.engine_moves = counter("streamer_engine_moves", "Changes of a worker from one engine process to another.")
        self.engine_resent = counter(
            "streamer_engine_resent", "Windows sent whole because an engine process did not hold what was sent before."
        )
        self.engine_sent = counter("streamer_engine_sent_bytes", "Bytes of steps sent to engine processes.")
        # second passes
        self.revisions = counter("streamer_revisions", "Turns that were to be decoded once more.", ["outcome"])
        for outcome in get_args(RevisionOutcome):
            self.revisions.labels(outcome)  # published from the first scrape on
        self.revision_s = counter("streamer_revision_seconds", "Seconds of computing for second passes.")
        self.revisions_waiting = gauge("streamer_revisions_waiting", "Turns that wait to be decoded once more.")


class MicrophoneMetrics:
    """Metrics of the daemon's own microphone, where it has one."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.alive = Gauge(
            "streamer_microphone_alive", "Whether the daemon's microphone is captioned, 0 or 1.", registry=registry
        )


class CertificateMetrics:
    """
    Metrics of the TLS certificate, where the daemon has one.

    Args:
        registry: Where they are published.
        expires_at: Unix time at which the certificate expires that new clients see, seconds.
    """

    def __init__(self, registry: CollectorRegistry, expires_at: Callable[[], float]) -> None:
        Gauge(
            "streamer_certificate_expires_timestamp_seconds",
            "Unix time at which the TLS certificate that new clients see expires.",
            registry=registry,
        ).set_function(expires_at)


class GatewayMetrics:
    """Metrics of gateway processes, kept by their parent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.serving = Gauge("streamer_gateways", "Gateway processes.", registry=registry)
        self.configured = Gauge(
            "streamer_gateways_configured", "Gateway processes that there shall be.", registry=registry
        )
        self.restarts = Counter(
            "streamer_gateway_restarts", "Gateway processes started again after they were lost.", registry=registry
        )
        self.replaced = Counter(
            "streamer_gateways_replaced", "Gateway processes replaced on demand.", registry=registry
        )


class HubMetrics:
    """Metrics of the hub of several gateways."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.failures = Counter(
            "streamer_hub_failures",
            "Questions of gateways, and rooms sent to them, that failed with an unforeseen error.",
            registry=registry,
        )


class ConnectionMetrics:
    """Metrics of connections, before a session begins."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge("streamer_connections", "Open WebSockets.", registry=registry)
        self.tasks = Gauge("streamer_tasks", "Tasks of the event loop: some for each connection.", registry=registry)
        self.refused = Counter(
            "streamer_connections_refused",
            "Connections refused before they began, by reason.",
            ["reason"],
            registry=registry,
        )


class SocketMetrics:
    """Metrics of the sockets of the HTTP port, before any request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sockets = Gauge("streamer_sockets", "Open connections, with or without a request.", registry=registry)
        self.dropped = Counter(
            "streamer_sockets_dropped",
            "Connections closed to keep a bound: rate of an address, waiting for their peer, all full.",
            ["reason"],
            registry=registry,
        )
        self.accept_errors = Counter(
            "streamer_accept_errors", "Connections that could not be accepted: no descriptors left.", registry=registry
        )


class LoopMetrics:
    """Metrics of the event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:

        def histogram(name: str, documentation: str) -> Histogram:
            buckets = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
            return Histogram(f"streamer_loop_{name}_seconds", documentation, buckets=buckets, registry=registry)

        self.held = histogram(
            "held", "Processor time for which the event loop was held, where that was more than 50 ms."
        )
        self.waited = histogram(
            "waited", "Time for which it waited in its work, for a lock, a thread or a file; where more than 50 ms."
        )
        self.starved = histogram(
            "starved", "Time for which it had work and the machine did not run it, where that was more than 50 ms."
        )
        self.longest = Gauge(
            "streamer_loop_held_longest_seconds", "The longest of these holds since the start.", registry=registry
        )
