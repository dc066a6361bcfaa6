"""
A daemon whose engine processes cost nothing: what it takes is what a gateway takes.

    python -m benchmarks.free_engine serve --port 8000 [--model tiny.en]

An engine says a word for each 0.4 s of a window. It has the vocabulary of the model, but no network.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

from streamer import weights
from streamer.build import Service
from streamer.config import Config
from streamer.engine_process import Hosted, main, ready
from streamer.gateway import build_gateway, programs
from streamer.remote import wire
from streamer.remote.host import EngineHost, StepTimesQueue
from streamer.remote.revision_host import RevisionHost
from streamer.scheduling.calibration import Clocks
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.step import StepRequest, StepResult
from streamer.text.tokenizer import Tokenizer
from tests.helpers.process import serve

WORD_S = 0.4
WORDS = ("so", "the", "first", "thing", "we", "see", "is", "how", "it", "was", "made", "and", "what", "they", "said")
COSTS = StepCosts(0.001, 0.001)
"""Of a step, as the gateway is told: a hundred streams are within its capacity."""
MAX_BATCH = 64


class FreeEngine:
    """
    Says words by the clock.

    Args:
        tokenizer: Of the model that it stands for.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._words = [tuple(tokenizer.encode(f" {word}")) for word in WORDS]
        self.cache_bytes = (0, 0)

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As `Engine.step`."""
        return [self._result(request) for request in batch]

    def forget(self, session: str) -> None:
        """Nothing is cached."""

    def _result(self, request: StepRequest) -> StepResult:
        """The words of the window behind its prefix; a word's tokens share its time."""
        n_words = int(request.log_mel.shape[1] / 100 / WORD_S)
        timed = [
            (token, WORD_S * (n + i / len(word)))
            for n, word in zip(range(n_words), itertools.cycle(self._words))
            for i, token in enumerate(word)
        ][len(request.prefix) :]
        return StepResult(
            tokens=tuple(token for token, _ in timed),
            logprobs=(-0.1,) * len(timed),
            starts_s=(*(at_s for _, at_s in timed), n_words * WORD_S),
            n_verified=0,
            ended=True,
            no_speech_prob=0.0,
            language="en",
        )


def host(begin: wire.Begin) -> Hosted:
    """The host of an engine that costs nothing."""
    name = begin.config.model.name
    checkpoint = weights.load(weights.resolve(name))
    tokenizer, n_mels = weights.load_tokenizer(checkpoint), checkpoint.dims.n_mels
    engine, meter = (
        FreeEngine(tokenizer),
        LoadMeter(LoadLimits(min_interval_s=0.3, max_interval_s=1.0), MAX_BATCH, COSTS),
    )
    facts = wire.Facts(
        name=name,
        fingerprint="free",
        base_tokens=tokenizer.base_tokens,
        n_languages=tokenizer.n_languages,
        n_mels=n_mels,
        alignment_lag_s=0.0,
        max_batch=MAX_BATCH,
        device="cpu",
        dtype="none",
    )
    found = EngineHost(
        LocalDecoder(begin.name, engine, meter, DeviceThread()),
        engine,
        fingerprint=facts.fingerprint,
        n_mels=n_mels,
        max_batch=MAX_BATCH,
        times=StepTimesQueue(),
        n_rebuilt=lambda: 0,
        clocks=Clocks(),
        revisions=RevisionHost(RevisionThread(RevisionDecoder([])), n_mels),
    )
    return Hosted(found, ready(facts, COSTS, {}, []))


def build(config: Config) -> Service:
    """A gateway of such engines, as many as the configuration says."""
    return build_gateway(config, programs(config, command=(sys.executable, "-m", "benchmarks.free_engine")))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(build)
    else:
        sys.exit(main(sys.argv[1:], host))
