"""A speech model in this process: transcribe recordings, stream audio, decode windows, detect languages."""

from __future__ import annotations

import functools
import inspect
import itertools
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from model import Whisper
from streamer.audio.channels import LevelMeter, choose_mix
from streamer.audio.files import SoundFile, read_sound_file
from streamer.audio.frontend import FrontEnd
from streamer.audio.mel import MelSpectrogram
from streamer.audio.mixer import Mixer, MonoSignal
from streamer.audio.notes import Note
from streamer.audio.pcm import SAMPLE_RATE, Resampler, Samples, bounded, finite
from streamer.audio.sample_range import RangeMeter
from streamer.audio.vad import VoiceDetector, read_weights
from streamer.build.engines import model_facts, revising_model
from streamer.build.options import choose_device, choose_dtype, device_errors, engine_options, window_options
from streamer.config import Config, ModelConfig
from streamer.engine.engine import WhisperEngine
from streamer.engine.loading import load_model
from streamer.errors import AudioFormatError, EngineError
from streamer.library.streaming import stream_events
from streamer.library.transcript import Segment, Transcript, segments_of
from streamer.library.windows import DecodeOptions, WindowDecoder, cut_in_pauses, has_voice, voice_probabilities
from streamer.protocol.events import Event
from streamer.protocol.options import SessionOptions
from streamer.scheduling.revision_decoder import RevisionDecoder
from streamer.session.plausibility import is_no_speech
from streamer.session.session import Session
from streamer.session.spec import SessionSpec
from streamer.step import StepResult
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.joining import joined
from streamer.text.tokenizer import Tokenizer

Audio = str | Path | NDArray[np.generic]
"""Path of a file, or samples: (n,) or (n, channels), floats from -1 to 1 or signed integers of full scale."""
MAX_RATE, MIN_RATE = 384_000, 1000
"""Sample rates of arrays, hertz."""
PIECE_S = 10
"""Length of the pieces in which an array is measured, seconds: each takes memory."""


def load(
    name: str = "tiny.en",
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
) -> SpeechModel:
    """
    Load a model that is on this machine.

    Args:
        name: Published name, path of a checkpoint, or repository, as for `streamer serve --model`.
        device: Where the network runs; `auto` is the GPU if there is one.
        dtype: Of the arithmetic; `auto` is the fastest that the device computes natively.

    Raises:
        ModelNotFoundError: The weights are not on this machine; the message names the remedy.
        CheckpointError: The weights are damaged.
        EngineError: The device does not work, or is too small.
    """
    config = Config(model=ModelConfig(name=name, device=device, dtype=dtype))
    chosen = choose_device(config.model)
    with device_errors(name, chosen):
        return SpeechModel(*load_model(name, choose_dtype(config.model, chosen), chosen), config)


class SpeechModel:
    """
    A loaded model. Not thread-safe: use one at a time; streams may take turns.

    Args:
        network: In inference mode.
        tokenizer: Of the same checkpoint.
        config: Of the live engine.
    """

    def __init__(self, network: Whisper, tokenizer: Tokenizer, config: Config) -> None:
        self.network, self.tokenizer = network, tokenizer
        self._config, self._numbers = config, itertools.count()
        self._facts = model_facts(config.model.name, network, tokenizer)
        self._window = window_options(config, self._facts)
        self._metrics = EngineMetrics(CollectorRegistry())

    @property
    def is_multilingual(self) -> bool:
        """Whether the model knows more languages than English."""
        return self.network.is_multilingual

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model knows."""
        return tuple(self.tokenizer.languages)

    def transcribe(self, audio: Audio, *, rate: int = SAMPLE_RATE, **options: Unpack[DecodeOptions]) -> Transcript:
        """
        Transcribe a whole recording, greedily in windows of at most 30 s that are cut in pauses.

        Args:
            audio: A file or samples, see `Audio`.
            rate: Of samples, hertz; files know their own.
            **options: See `DecodeOptions`; a language is detected in the first window with voice.

        Raises:
            AudioFormatError: The audio cannot be read.
            EngineError: The model has no such language, or the device failed.
            TypeError: There is no such option.
        """
        inspect.signature(self._windows.decode).bind(audio, **options)  # silence never gets as far as decoding
        sound = sound_of(audio, rate)
        samples = sound.samples
        segments, at_s = list[Segment](), 0.0
        voice = voice_probabilities(self._front_end, samples)
        for window in cut_in_pauses(samples, voice):
            end_s = at_s + len(window) / SAMPLE_RATE
            if has_voice(voice, at_s, end_s):  # the network makes words of silence
                result = self.decode(window, **options)
                options["language"] = result.language
                if not is_no_speech(result):
                    segments += segments_of(result, self.tokenizer, at_s, end_s, self._window.alignment_lag_s)
            at_s = end_s
        text = joined(segment.text for segment in segments)
        return Transcript(
            text=text,
            language=options.get("language") or "",
            duration_s=at_s,
            segments=tuple(segments),
            warnings=tuple(map(str, sound.notes)),
        )

    def decode(self, audio: Audio, *, rate: int = SAMPLE_RATE, **options: Unpack[DecodeOptions]) -> StepResult:
        """
        Decode one window greedily without timestamps, as the published `decode` at temperature 0.

        Args:
            audio: A file or samples of at most 30 s, see `Audio`.
            rate: Of samples, hertz.
            **options: See `DecodeOptions`.

        Returns:
            Tokens with their probabilities and times, and the probability of no speech.

        Raises:
            AudioFormatError: The audio cannot be read.
            EngineError: The audio is longer than 30 s, the model has no such language, or the device failed.
        """
        return self._windows.decode(samples_of(audio, rate), **options)

    def detect_language(self, audio: Audio, *, rate: int = SAMPLE_RATE) -> dict[str, float]:
        """
        Probability of each language in the first 30 s, likeliest first; English-only models know one.

        Args:
            audio: A file or samples, see `Audio`.
            rate: Of samples, hertz.

        Raises:
            AudioFormatError: The audio cannot be read.
        """
        return self._windows.language_probabilities(samples_of(audio, rate)[: 30 * SAMPLE_RATE])

    def stream(
        self, blocks: Iterable[NDArray[np.generic]], options: SessionOptions | None = None, *, rate: int = SAMPLE_RATE
    ) -> Iterator[Event]:
        """
        Events of live audio: captions while it is spoken, a turn when it is final, `Bye` at the end.

        A step runs on the caller's thread when it is due, so a source in real time needs a buffer for its length.

        Args:
            blocks: Samples of any length, (n,) or (n, channels), see `Audio`; read one by one.
            options: Language, delay and other options of the session; with `revise` a turn that has ended is decoded
                once more, and `TurnRevised` follows where its text changes.
            rate: Of the samples, hertz.

        Raises:
            AudioFormatError: A block has the wrong shape or dtype, or floats in the range of integers.
            EngineError: A step failed, or `revise` names another model.
        """
        options = options or SessionOptions()
        if isinstance(options.revise, str) and options.revise != self._facts.name:
            raise EngineError(f"revise = {options.revise!r}: expected True, False or {self._facts.name!r}, this model")
        spec = SessionSpec(
            name=f"stream-{next(self._numbers)}",
            options=options,
            window=self._window,
            model=self._facts,
        )
        session = Session(spec)
        return stream_events(
            _resampled(blocks, rate), session, self._front_end, self._live_engine, self._reviser.decode
        )

    @functools.cached_property
    def _front_end(self) -> FrontEnd:
        device = self.network.device
        spectrogram = MelSpectrogram(self.network.dims.n_mels, device)
        return FrontEnd(spectrogram, VoiceDetector(read_weights(), device))

    @functools.cached_property
    def _windows(self) -> WindowDecoder:
        return WindowDecoder(self.network, self.tokenizer, self._metrics)

    @functools.cached_property
    def _reviser(self) -> RevisionDecoder:
        options = engine_options(self._config, self.network)
        return RevisionDecoder([revising_model(self._facts, self.network, options, self._config.revise.beams)])

    @functools.cached_property
    def _live_engine(self) -> WhisperEngine:
        options = replace(engine_options(self._config, self.network), max_batch=1)
        return WhisperEngine(self.network, self.tokenizer, options, self._metrics)


def samples_of(audio: Audio, rate: int) -> Samples:
    """
    Mono samples (n,) at 16 kHz of a file or an array. What was lost of a file is a warning of Python.

    Raises:
        AudioFormatError: As `sound_of`.
    """
    sound = sound_of(audio, rate)
    for note in sound.notes:
        warnings.warn(f"{audio}: {note}", stacklevel=3)
    return sound.samples


def sound_of(audio: Audio, rate: int) -> SoundFile:
    """
    Mono samples (n,) at 16 kHz of a file or an array, what was lost of the file, and which channels were chosen.

    Raises:
        AudioFormatError: There is no such file, nothing in it can be decoded, or the array has a wrong shape, dtype,
            rate or range.
    """
    if isinstance(audio, str | Path):
        return read_sound_file(Path(audio))
    _check_rate(rate)
    samples = _by_channel(audio)
    meter = LevelMeter(samples.shape[1], rate)
    for at in range(0, len(samples), PIECE_S * rate):
        meter.add(bounded(samples[at : at + PIECE_S * rate]))
    levels = meter.levels()
    signal, about = MonoSignal(samples.shape[1], rate, known=levels), choose_mix(levels).about
    return SoundFile(np.concatenate([signal.convert(samples), signal.finish()]), (Note(about),) if about else ())


def _resampled(blocks: Iterable[NDArray[np.generic]], rate: int) -> Iterator[Samples]:
    _check_rate(rate)
    resampler, mixers, meter = Resampler(rate), dict[int, Mixer](), RangeMeter(rate)
    for block in blocks:
        samples = _by_channel(block)
        meter.refuse_integers(samples)
        mixer = mixers.setdefault(samples.shape[1], Mixer(samples.shape[1], rate))
        yield resampler.resample(mixer.mix(bounded(samples)))
    yield resampler.finish()


def _check_rate(rate: int) -> None:
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioFormatError(f"{rate} samples per second, expected {MIN_RATE} to {MAX_RATE}")


def _by_channel(samples: NDArray[np.generic]) -> Samples:
    """Samples (n,) or (n, channels) -> float32 (n, channels), where 1 is full scale."""
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= 64):
        raise AudioFormatError(f"samples of shape {samples.shape}: expected (n,) or (n, channels), 1 to 64 channels")
    if np.issubdtype(samples.dtype, np.signedinteger):
        scaled = samples.astype(np.float32) / -float(np.iinfo(samples.dtype.name).min)
    elif np.issubdtype(samples.dtype, np.floating):
        scaled = samples.astype(np.float32)
    else:
        raise AudioFormatError(f"samples of dtype {samples.dtype}: expected floats or signed integers")
    return finite(scaled.ravel()).reshape(len(scaled), -1 if scaled.size else 1)
