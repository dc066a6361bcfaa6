"""
A daemon whose engine processes cost nothing: what it takes is what a gateway takes.

    python -m benchmarks.free_engine serve --port 8000 [--model tiny.en]

An engine says a word for each 0.4 s of a window. It has the vocabulary of the model, but no network. With the variable
`FREE_ENGINE_COSTS`, a name of `benchmarks.scale.costs.ENGINES`, its steps last as long as that engine's, without any
processor time: a GPU that this machine need not have.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence

from benchmarks.scale.costs import ENGINES, EngineCosts
from streamer import weights
from streamer.build.service import Service
from streamer.config import Config
from streamer.engine_process import Hosted, main, ready
from streamer.gateway import build_gateway, programs
from streamer.gateways.parent import Commands
from streamer.gateways.parent import serve as serve_with_gateways
from streamer.remote import wire
from streamer.remote.host import EngineHost, StepTimesQueue
from streamer.remote.revision_host import RevisionHost
from streamer.scheduling.calibration import Clocks
from streamer.scheduling.decoder import LocalDecoder
from streamer.scheduling.device_thread import DeviceThread
from streamer.scheduling.load import LoadLimits, LoadMeter, StepCosts
from streamer.scheduling.revision_decoder import RevisionDecoder, RevisionThread
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import DecoderPass, StepTimes
from streamer.text.tokenizer import Tokenizer
from tests.helpers.process import serve

WORD_S = 0.4
WORDS = ("so", "the", "first", "thing", "we", "see", "is", "how", "it", "was", "made", "and", "what", "they", "said")
FREE = EngineCosts(name="free", fixed_s=0.0, row_s=0.0)
TOLD = StepCosts(0.001, 0.001)
"""Cost of a step of a free engine as the gateway is told: a hundred streams are within its capacity."""
COMMAND = (sys.executable, "-m", "benchmarks.free_engine")


class FreeEngine:
    """
    Says words by the clock.

    Args:
        tokenizer: Of the model that it stands for.
        costs: How long a step lasts.
        times: Is told of each step, as one pass of all its rows.
    """

    def __init__(self, tokenizer: Tokenizer, costs: EngineCosts, times: StepTimesQueue) -> None:
        self._words = [tuple(tokenizer.encode(f" {word}")) for word in WORDS]
        self._costs, self._times = costs.step, times
        self.cache_bytes = (0, 0)

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """As `Engine.step`."""
        seconds = self._costs.step_s(len(batch))
        time.sleep(seconds)
        decoding = DecoderPass(kind="verify", seconds=seconds, n_rows=len(batch))
        self._times.stepped(StepTimes(encode_s=0.0, detect_s=None, passes=(decoding,), align_s=0.0, rows=()))
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
    """The host of an engine without a network."""
    name = begin.config.model.name
    checkpoint = weights.load(weights.resolve(name))
    tokenizer, n_mels = weights.load_tokenizer(checkpoint), checkpoint.dims.n_mels
    wanted, times = os.environ.get("FREE_ENGINE_COSTS", ""), StepTimesQueue()
    costs, told = (ENGINES[wanted], ENGINES[wanted].step) if wanted else (FREE, TOLD)
    engine = FreeEngine(tokenizer, costs, times)
    meter = LoadMeter(LoadLimits(min_interval_s=0.3, max_interval_s=1.0), costs.most_rows, told)
    facts = wire.Facts(
        name=name,
        fingerprint="free",
        base_tokens=tokenizer.base_tokens,
        n_languages=tokenizer.n_languages,
        n_mels=n_mels,
        alignment_lag_s=0.0,
        max_batch=costs.most_rows,
        device=costs.device,
        dtype="none",
    )
    found = EngineHost(
        LocalDecoder(begin.name, engine, meter, DeviceThread()),
        engine,
        fingerprint=facts.fingerprint,
        n_mels=n_mels,
        max_batch=facts.max_batch,
        times=times,
        n_rebuilt=lambda: 0,
        clocks=Clocks(),
        revisions=RevisionHost(RevisionThread(RevisionDecoder([])), n_mels),
    )
    return Hosted(found, ready(facts, told, {}, []))


def build(config: Config) -> Service:
    """A gateway of such engines, as many as the configuration says."""
    return build_gateway(config, programs(config, command=COMMAND))


def gateways(config: Config) -> int:
    """Serve with several gateways of such engines; the exit code."""
    return serve_with_gateways(config, commands=Commands(engine=COMMAND))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(build, gateways)
    else:
        sys.exit(main(sys.argv[1:], host))
