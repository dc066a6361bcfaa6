"""
The engine: the only user of the network and of the device.

A step encodes each window (short ones completed by cached silence), feeds what is known — prompt, committed prefix
and the previous hypothesis as a draft — in one decoder pass, keeps the draft as far as it still is the greedy choice
under the new audio, and decodes on from there, all rows together. The result is what greedy decoding would have
said, in a fraction of the serial passes.

Not thread-safe: one thread owns an engine.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model import CapturedDecoder, DecoderOutput, Whisper
from model.alignment import alignment_cost, monotone_starts
from streamer.audio import mel
from streamer.engine.decoding import DecodingRules, token_budget
from streamer.engine.keyterms import KeyTermBias
from streamer.engine.options import EngineOptions
from streamer.engine.row import Row
from streamer.engine.window_cache import TextKV, WindowCache
from streamer.engine.window_encoder import POSITION_S, WindowEncoder
from streamer.errors import DeviceError, EngineError
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import EngineMetrics
from streamer.text.tokenizer import Tokenizer

MIN_ROOM = 8
"""Tokens that a step may always say: a prefix must leave so many."""


class WhisperEngine:
    """
    Greedy streaming decoder over a batch of sessions.

    Args:
        model: In inference mode, on its device.
        tokenizer: Of the same checkpoint.
        options: See `EngineOptions`.
        metrics: Where latencies and sizes are observed.
    """

    def __init__(self, model: Whisper, tokenizer: Tokenizer, options: EngineOptions, metrics: EngineMetrics) -> None:
        self.model, self.tokenizer, self.options, self.metrics = model, tokenizer, options, metrics
        self.rules = DecodingRules(tokenizer, model.dims.n_vocab, model.device)
        self._keyterms = KeyTermBias(tokenizer, model.device, options.keyterms)
        with torch.inference_mode():
            floor = mel.silence_value(options.mel_maximum)
            stride = options.silence_stride
            silence = model.encoder.encode_silence(floor, stride=stride) if options.silence_cache else None
            tail = model.silence_tail(silence, options.n_tail) if silence else None
            capacity = options.audio_capacity(model.dims)
            self._cache = model.new_cache(n_slots=options.max_batch, audio_capacity=capacity, tail=tail)
            self._captured = self._capture() if model.device.type == "cuda" else None
        n_sessions, text_bytes = options.max_remembered, options.max_remembered_bytes // 8
        audio_bytes = options.max_remembered_bytes - text_bytes
        self.window_encoder = WindowEncoder(model, self._cache, silence, options, audio_bytes)
        self._texts = WindowCache(TextKV((), self._cache.text_of(0, 0, model.dtype)), n_sessions, text_bytes)

    def _capture(self) -> CapturedDecoder:
        captured = CapturedDecoder(self.model.decoder, self._cache)
        captured.capture()
        return captured

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Bytes in memory: the decoder's own keys and values; those of the audio; both with what is remembered."""
        text, audio = self._cache.n_bytes()
        return text + self._texts.n_bytes, audio + self.window_encoder.n_bytes

    def forget(self, session: str) -> None:
        """Forget a session that is over."""
        self._texts.release(session)
        self.window_encoder.forget(session)

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """
        Transcribe each window of the batch; results in the same order.

        Raises:
            EngineError: A request is impossible (more than `max_batch` of them, two of one session, a window that
                is empty or too long, a prefix that leaves no room); no session was changed.
            DeviceError: The device failed; no session was changed.
        """
        try:
            return self._step(batch)
        except ValueError as error:
            raise EngineError(f"step of {len(batch)} failed: {error}") from error
        except (RuntimeError, MemoryError) as error:  # torch reports a failing device as RuntimeError
            raise DeviceError(f"step of {len(batch)} failed on the device: {error}") from error

    def _check(self, batch: Sequence[StepRequest]) -> None:
        n, n_sessions, most = len(batch), len({request.session for request in batch}), self.options.max_batch
        if n != n_sessions or n > most:
            raise ValueError(f"{n} requests of {n_sessions} sessions: expected one of each, {most} at most")
        for request in batch:
            n_frames = request.log_mel.shape[1]
            if not 1 <= n_frames <= 2 * self._cache.audio_capacity:
                raise ValueError(f"window of {n_frames} frames, allowed are 1 to {2 * self._cache.audio_capacity}")

    def _step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        self._check(batch)
        with torch.inference_mode():
            slots = range(len(batch))
            lengths = self._encode(batch, slots)
            languages = self._languages(batch, slots)
            rows = [self._row(*each) for each in zip(batch, slots, lengths, languages, strict=True)]
            self._verify(rows)
            self._decode(rows)
            self._remember(rows)
            return self._results(rows)

    def _encode(self, batch: Sequence[StepRequest], slots: Sequence[int]) -> list[int]:
        """Encode the windows into their slots; positions of own sound of each."""
        started = time.perf_counter()
        self.window_encoder.encode(batch, slots)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)  # or the decoder would be measured with the encoder's work
        self.metrics.encoded(time.perf_counter() - started, len(batch))
        return [min(-(-r.log_mel.shape[1] // 2), self._cache.audio_capacity) for r in batch]

    # --- tokens

    def _languages(self, batch: Sequence[StepRequest], slots: Sequence[int]) -> list[str]:
        """The language of each request, detected where none is given."""
        languages = [r.language or "en" for r in batch]
        if not self.tokenizer.multilingual:
            return languages
        asked = [i for i, r in enumerate(batch) if r.language is None]
        if asked:
            for i in asked:
                self._cache.set_length(slots[i], 0)
            plan = self._cache.plan_append([slots[i] for i in asked], [1] * len(asked))
            tokens = torch.full((len(asked),), self.tokenizer.sot, device=self.model.device)
            hidden = self.model.decoder(tokens, self._cache, plan).hidden
            found = self.rules.best_language(self.model.decoder.project(hidden))
            for i, language in zip(asked, found, strict=True):
                languages[i] = language
        return languages

    def _row(self, request: StepRequest, slot: int, n_positions: int, language: str) -> Row:
        dims, tokenizer = self.model.dims, self.tokenizer
        start = (*tokenizer.sot_sequence(language, request.task), tokenizer.no_timestamps)
        room = dims.n_text_ctx - len(start) - len(request.prefix)
        if room < MIN_ROOM:
            raise ValueError(f"prefix of {len(request.prefix)} tokens leaves {room} of {dims.n_text_ctx} for new ones")
        # the prompt takes half of what is left at most, `sot_prev` included: new text goes before old
        prompt = request.prompt[-max(1, min(dims.max_prompt, room // 2 - 1)) :]
        context = (*((tokenizer.sot_prev, *prompt) if prompt else ()), *start, *request.prefix)
        plausible = token_budget(request.log_mel.shape[1]) - len(request.prefix)
        budget = min(dims.n_text_ctx - len(context), max(plausible, MIN_ROOM))
        first = len(context) - len(request.prefix) - len(start)
        self._cache.set_length(slot, 0)
        n_cached = self._take_over(slot, request, context) if self.options.kv_reuse and request.prefix else 0
        return Row(request, slot, n_positions, language, context, sot_at=first, n_cached=n_cached, budget=budget)

    def _take_over(self, slot: int, request: StepRequest, context: Sequence[int]) -> int:
        """Copy the cached keys and values that `context` shares with the last step into a slot; number of tokens."""
        read = self._texts.of(request.session, request.window)
        # the pass over a token says where the next one is heard: the anchor needs the token before it
        n = read.n_shared(context[: max(0, len(context) - 1 - request.anchor_tokens)])
        self._cache.set_text(slot, read.keys_values[:, :, :, :n])
        return n

    def _verify(self, rows: list[Row]) -> None:
        """One pass over what is known and guessed: keep the guesses that greedy decoding confirms."""
        started = time.perf_counter()
        drafts = [list(row.request.draft[: row.budget - 1]) for row in rows]
        fed = [[*row.context[row.n_cached :], *draft] for row, draft in zip(rows, drafts, strict=True)]
        output = self._pass(rows, fed)
        firsts = list(itertools.accumulate(map(len, fed), initial=0))
        # logits are computed only where they are read: at the start token, and from the last known token on
        places = [
            (i, place)
            for i, (row, draft) in enumerate(zip(rows, drafts, strict=True))
            for place in range(len(fed[i]) - len(draft) - 1, len(fed[i]))
        ]
        starts = [(i, row.sot_at - row.n_cached) for i, row in enumerate(rows) if row.sot_at >= row.n_cached]
        read_at = torch.tensor([firsts[i] + place for i, place in places + starts]).to(self.model.device)
        logits = self.model.decoder.project(output.hidden[read_at])
        for (i, _), probability in zip(starts, self.rules.no_speech(logits[len(places) :]), strict=True):
            rows[i].no_speech_prob = probability
        begins = [n for n, (i, place) in enumerate(places) if not rows[i].request.prefix and _begins(places, n)]
        self._keyterms.boost(
            logits,
            [
                row.token_context(draft[:n])
                for row, draft in zip(rows, drafts, strict=True)
                for n in range(len(draft) + 1)
            ],
        )
        attached = self._attached(rows, drafts)
        choice = self.rules.choose(logits[: len(places)], begins, _no_eot_at(rows, drafts), attached)
        at = 0
        for i, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            n = len(draft) + 1
            row.accept(draft, choice.tokens[at : at + n], choice.logprobs[at : at + n], self.tokenizer.eot)
            at += n
            read = len(fed[i]) - len(draft) + row.n_verified
            row.add_queries(output.queries, firsts[i], read)
            self._cache.set_length(row.slot, row.n_cached + read)
        said = sum(row.n_verified + 1 for row in rows) / len(rows)
        self.metrics.decoded((time.perf_counter() - started) / said, len(rows), sum(map(len, drafts)))

    def _decode(self, rows: list[Row]) -> None:
        """One token for each open row at a time, until every row has ended or reached its bound."""
        active = [row for row in rows if not row.done]
        while active:
            started = time.perf_counter()
            logits, queries = self._next(active)
            self._keyterms.boost(logits, [row.token_context(row.tokens) for row in active])
            attached = [i for i, row in enumerate(active) if row.follows_words and self._touches(row.tokens)]
            choice = self.rules.choose(logits, [], [], attached)
            for i, row in enumerate(active):
                row.add_queries(queries, i, 1)
                row.append(choice.tokens[i], choice.logprobs[i], self.tokenizer.eot)
            self.metrics.decoded(time.perf_counter() - started, len(active), 0)
            active = [row for row in active if not row.done]

    def _attached(self, rows: Sequence[Row], drafts: Sequence[list[int]]) -> list[int]:
        """Among the places that are chosen at, one more than each draft is long, those at a committed word."""
        found: list[int] = []
        first = 0
        for row, draft in zip(rows, drafts, strict=True):
            if row.follows_words:
                n = next((n for n, token in enumerate(draft) if self.rules.begins_word(token)), len(draft))
                found += range(first, first + n + 1)
            first += len(draft) + 1
        return found

    def _touches(self, said: Sequence[int]) -> bool:
        """Whether what comes after these tokens stands at the same word as their first."""
        return not any(self.rules.begins_word(token) for token in said)

    def _next(self, rows: list[Row]) -> tuple[Tensor, Tensor]:
        """Run each row's last token: logits of what follows it, (rows, n_vocab), and the alignment heads' queries."""
        if self._captured is not None:
            return self._captured([row.slot for row in rows], [row.tokens[-1] for row in rows])
        output = self._pass(rows, [[row.tokens[-1]] for row in rows])
        return self.model.decoder.project(output.hidden), output.queries

    def _pass(self, rows: list[Row], fed: list[list[int]]) -> DecoderOutput:
        """Append each row's tokens to its slot and run them."""
        plan = self._cache.plan_append([row.slot for row in rows], [len(tokens) for tokens in fed])
        tokens = torch.tensor([*itertools.chain.from_iterable(fed)])
        output: DecoderOutput = self.model.decoder(tokens.to(self.model.device), self._cache, plan)
        return output

    def _remember(self, rows: list[Row]) -> None:
        for row in rows:
            request = row.request
            if self.options.kv_reuse and request.window_start is not None and request.settled_tokens:
                n = len(row.context) - len(request.prefix) + min(request.settled_tokens, len(request.prefix))
                text = TextKV(row.context[:n], self._cache.text_of(row.slot, n, self.model.dtype))
                self._texts.keep(request.session, request.window, text)

    # --- times

    def _results(self, rows: list[Row]) -> list[StepResult]:
        return [
            StepResult(
                tokens=tuple(row.tokens),
                logprobs=tuple(row.logprobs),
                starts_s=self._times(row, starts),
                n_verified=row.n_verified,
                ended=row.ended,
                no_speech_prob=row.no_speech_prob,
                language=row.language,
            )
            for row, starts in zip(rows, self._starts(rows), strict=True)
        ]

    def _starts(self, rows: list[Row]) -> list[list[int]]:
        """For each row where the anchor, the new tokens and what followed them begin, positions from the anchor on."""
        # what was fed before the start token, the prompt, has no place in the sound
        queries = [torch.cat(row.queries)[max(0, row.sot_at - row.n_cached) :] for row in rows]
        sizes = [(len(each), row.n_positions) for each, row in zip(queries, rows, strict=True)]
        slots, n_positions = [row.slot for row in rows], max(row.n_positions for row in rows)
        scores = self.model.decoder.align(pad_sequence(queries, batch_first=True), self._cache, slots, n_positions)
        costs = alignment_cost(scores, sizes)
        aligned = zip(costs, sizes, rows, strict=True)
        return monotone_starts([cost[n - row.n_aligned : n, self._anchor(row) : at] for cost, (n, at), row in aligned])

    def _anchor(self, row: Row) -> int:
        """First position that new tokens may take."""
        return min(int(row.request.anchor_s / POSITION_S), row.n_positions - 1)

    def _times(self, row: Row, starts: list[int]) -> tuple[float, ...]:
        n_said = len(row.tokens) + (1 if row.ended else 0)
        positions = [self._anchor(row) + start for start in starts[len(starts) - n_said :]]
        ends = positions if row.ended else [*positions, row.n_positions]
        return tuple(round(position * POSITION_S, 3) for position in ends)


def _no_eot_at(rows: Sequence[Row], drafts: Sequence[list[int]]) -> list[int]:
    """Among the places that are chosen at, a draft's length and one more for each row, those where no text may end."""
    firsts = itertools.accumulate((len(draft) + 1 for draft in drafts), initial=0)
    asked = [
        (first, row.request.no_eot_at, len(draft)) for first, row, draft in zip(firsts, rows, drafts, strict=False)
    ]
    return [first + n for first, n, length in asked if n is not None and n <= length]


def _begins(places: list[tuple[int, int]], n: int) -> bool:
    """Whether place `n` is the first of its row."""
    return n == 0 or places[n - 1][0] != places[n][0]
