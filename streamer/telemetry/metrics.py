"""All metrics of the daemon, in a registry that callers pass; cheap enough to be always on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MS_BUCKETS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 250, 500, 1000, 2500)
RECENT = 100_000
"""Observations that are kept exactly, for evaluation and benchmarks."""
SECOND_BUCKETS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.9, 1.2, 1.8, 2.5, 4, 6, 10, 20)


def _milliseconds(name: str, about: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, about, buckets=MS_BUCKETS, registry=registry)


class EngineMetrics:
    """Metrics of the engines. The names of the first four are fixed: dashboards use them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._encoder = _milliseconds(
            "whisper_encoder_forward_latency_ms",
            "Milliseconds of the encoder for one window: the passes of a step over its windows.",
            registry,
        )
        self._token = _milliseconds(
            "whisper_decoder_token_latency_ms",
            "Milliseconds until a row's next token: a decode pass yields one token for each row, a verify pass the "
            "confirmed draft and one more.",
            registry,
        )
        self._attention = Gauge(
            "whisper_attention_memory_bytes",
            "Bytes of keys and values of the sound: those preallocated for cross-attention, and settled ones.",
            registry=registry,
        )
        self._kv = Gauge(
            "whisper_kv_cache_size_bytes",
            "Bytes of preallocated self-attention keys and values.",
            registry=registry,
        )
        self._passes = Counter("streamer_decoder_passes", "Decoder passes run.", registry=registry)
        self._rows = Counter("streamer_decoder_rows", "Rows in those passes.", registry=registry)
        self._drafted = Counter("streamer_draft_tokens", "Draft tokens offered for verification.", registry=registry)

        self._recent_token_ms: deque[float] = deque(maxlen=RECENT)
        self._recent_encoder_ms: deque[float] = deque(maxlen=RECENT)

    def recent_encoder_ms(self) -> list[float]:
        """The newest observations of the encoder latency, milliseconds a window."""
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

    def encoded(self, seconds: float, n_windows: int) -> None:
        """Count the encoder passes of one step: `n_windows` windows in `seconds`."""
        for _ in range(n_windows):
            self._encoder.observe(seconds / n_windows * 1e3)
        self._recent_encoder_ms.append(seconds / n_windows * 1e3)

    def decoded(self, seconds: float, n_rows: int, n_drafted: int) -> None:
        """
        Count one decoder pass.

        Args:
            seconds: Time until a row's next token.
            n_rows: Rows of the pass.
            n_drafted: Draft tokens that the pass verified.
        """
        self._token.observe(seconds * 1e3)
        self._recent_token_ms.append(seconds * 1e3)
        self._passes.inc()
        self._rows.inc(n_rows)
        self._drafted.inc(n_drafted)


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
        self.lag = gauge("streamer_lag_seconds", "Seconds of audio that no step has seen in the worst session.")
        self.commit = histogram(
            "streamer_commit_latency_seconds", "Seconds from the end of a word to its commit.", buckets=SECOND_BUCKETS
        )
        self.recordings_stopped = counter(
            "streamer_recordings_stopped", "Recordings that could not begin or ended before their session.", ["reason"]
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


class DoorMetrics:
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
