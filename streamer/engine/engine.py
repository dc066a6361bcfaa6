"""
The engine: runs steps on the device; the only user of the network.

A step encodes each window, short ones completed by cached silence. One decoder pass then verifies the drafts: it runs
prompt, committed prefix and the previous hypothesis as a draft, and keeps the draft as far as it still is the greedy
choice under the new audio. Decoding continues from there, all rows together. The result equals greedy decoding in a
fraction of the serial passes. An engine for second passes also searches with several beams, where the text is doubtful.

Not thread-safe: one thread owns an engine.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model import CapturedDecoder, DecoderOutput, Whisper
from model.alignment import alignment_cost, monotone_starts
from streamer.audio import mel
from streamer.engine.beam_search import BeamSearch, is_doubtful
from streamer.engine.budget import MIN_ROOM, token_budget, wanted_tokens
from streamer.engine.decoding import Choice, DecodingRules, Detected, Restrictions
from streamer.engine.keyterms import KeyTermBias, most_nodes
from streamer.engine.options import EngineOptions
from streamer.engine.row import Row
from streamer.engine.verification import Segment, restrictions_of, segments_of
from streamer.engine.window_cache import TextKV, WindowCache
from streamer.engine.window_encoder import POSITION_S, SettledWindow, WindowEncoder
from streamer.errors import DeviceError, EngineError
from streamer.step import StepRequest, StepResult
from streamer.telemetry.metrics import DecoderPass, PassKind, StepObserver, StepTimes
from streamer.text.tokenizer import Tokenizer

T = TypeVar("T")


class WhisperEngine:
    """
    Decoder of windows: greedy, over a batch of sessions, or one window at a time with several beams.

    Args:
        model: In inference mode, on its device.
        tokenizer: Of the same checkpoint.
        options: See `EngineOptions`.
        metrics: Observes the parts of every step, but for probes.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self,
        model: Whisper,
        tokenizer: Tokenizer,
        options: EngineOptions,
        metrics: StepObserver,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.tokenizer, self.options, self.metrics = model, tokenizer, options, metrics
        self._clock = clock
        self.rules = DecodingRules(tokenizer, model.dims.n_vocab, model.device)
        self._keyterms = KeyTermBias(tokenizer, model.device, options.keyterms, most_nodes(options.max_batch))
        with torch.inference_mode():
            floor = mel.silence_value(options.mel_maximum)
            silence = model.silence(floor, options.silence_stride) if options.silence_cache else None
            tail = model.silence_tail(silence, options.n_tail) if silence else None
            capacity = options.audio_capacity(model.dims)
            n_slots = max(options.max_batch, options.beams)
            self._cache = model.new_cache(n_slots=n_slots, audio_capacity=capacity, tail=tail)
            self._captured = self._capture() if model.device.type == "cuda" and options.captures else None
        n_sessions, text_bytes = options.max_remembered, options.max_remembered_bytes // 8
        audio_bytes = options.max_remembered_bytes - text_bytes
        self.window_encoder = WindowEncoder(model, self._cache, silence, options, audio_bytes)
        self._has_failed = False
        """Whether the last step failed: slots may hold NaN then, which no mask hides from their next rows."""
        self._texts = WindowCache(TextKV((), self._cache.text_of(0, 0, model.dtype)), n_sessions, text_bytes)

    def _capture(self) -> CapturedDecoder:
        captured = CapturedDecoder(self.model.decoder, self._cache)
        captured.capture()
        return captured

    @property
    def cache_bytes(self) -> tuple[int, int]:
        """Bytes of keys and values of text and of audio: slots of the KV cache and cached windows."""
        text, audio = self._cache.n_bytes()
        return text + self._texts.n_bytes, audio + self.window_encoder.n_bytes

    def forget(self, session: str) -> None:
        """Release everything cached for a session that is over; after the last one, the memory of the slots too."""
        self._texts.release(session)
        self.window_encoder.forget(session)
        if not self._texts.n_bytes and not self.window_encoder.n_bytes:
            self._cache.release()

    def check_integrity(self) -> None:
        """
        Compare the counters of the KV cache and of the window caches with what they hold. Not during a step.

        Raises:
            RuntimeError: A counter is wrong.
        """
        self._cache.check_integrity()
        self._texts.check_integrity()
        self.window_encoder.check_integrity()

    def step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        """
        Transcribe each window of the batch; results in the same order.

        Raises:
            EngineError: A request is impossible: more than `max_batch` of them, two of one session, an empty or too
                long window, one that holds NaN, or a prefix that leaves no room. No session was changed.
            DeviceError: The device failed, or computed what is not a number; no session was changed.
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
            raise ValueError(f"{n} requests of {n_sessions} sessions: expected one per session, at most {most}")
        if self.options.beams > 1 and (n > 1 or batch[0].prefix):
            raise ValueError(f"{n} requests for a beam search: expected one, without committed words")
        for request in batch:
            self._check_window(request.log_mel)

    def _check_window(self, log_mel: Tensor) -> None:
        if log_mel.ndim != 2 or log_mel.shape[0] != self.model.dims.n_mels:
            raise ValueError(
                f"window of shape {tuple(log_mel.shape)}: expected (n_mels, n_frames), this model needs "
                f"{self.model.dims.n_mels} bands"
            )
        if not 1 <= log_mel.shape[1] <= 2 * self._cache.audio_capacity:
            raise ValueError(f"window of {log_mel.shape[1]} frames: expected 1 to {2 * self._cache.audio_capacity}")
        if not bool(log_mel.isfinite().all()):
            raise ValueError(
                f"window of {log_mel.shape[1]} frames holds infinity or NaN: expected finite log-mel power"
            )

    def _step(self, batch: Sequence[StepRequest]) -> list[StepResult]:
        self._check(batch)
        with torch.inference_mode():
            if self._has_failed:
                self._cache.clear()
            self._has_failed = True
            slots = range(len(batch))
            settled, encode_s = self._timed(lambda: self._encode(batch, slots))
            lengths = [min(-(-r.log_mel.shape[1] // 2), self._cache.audio_capacity) for r in batch]
            languages, detect_s = self._timed(lambda: self._languages(batch, slots))
            rows = [self._row(*each) for each in zip(batch, slots, lengths, languages, strict=True)]
            passes = [self._verify(rows), *self._decode(rows), *self._search(rows)]
            texts = self._settled_texts(rows)
            results, align_s = self._timed(lambda: self._results(rows))
        self._has_failed = False
        self._remember(settled, texts)
        if not any(request.is_probe for request in batch):
            self.metrics.stepped(
                StepTimes(
                    encode_s=encode_s,
                    detect_s=detect_s if self._unknown(batch) else None,
                    passes=passes,
                    align_s=align_s,
                    rows=[(row.decoder_s, row.n_new) for row in rows],
                )
            )
        return results

    def _timed(self, part: Callable[[], T]) -> tuple[T, float]:
        """The result of a part of a step, and its seconds; the part waits for the device."""
        started = self._clock()
        result = part()
        return result, self._clock() - started

    def _passed(self, kind: PassKind, rows: Sequence[Row], started: float) -> DecoderPass:
        """The pass of these rows that began at `started` and ends now; each row has waited for all of it."""
        seconds = self._clock() - started
        for row in rows:
            row.decoder_s += seconds
        n_drafted = sum(len(row.draft) for row in rows) if kind == "verify" else 0
        return DecoderPass(kind=kind, seconds=seconds, n_rows=len(rows), n_drafted=n_drafted)

    def _encode(self, batch: Sequence[StepRequest], slots: Sequence[int]) -> list[SettledWindow]:
        """Encode the windows into their slots; returns those of which more is settled now."""
        settled = self.window_encoder.encode(batch, slots)
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)  # otherwise the decoder's time would include the encoder's
        return settled

    # --- tokens

    def _languages(self, batch: Sequence[StepRequest], slots: Sequence[int]) -> list[Detected]:
        """Language of each request; detected for requests without one."""
        languages = [Detected(r.language or "en", 1.0) for r in batch]
        if unknown := self._unknown(batch):
            for i in unknown:
                self._cache.set_length(slots[i], 0)
            plan = self._cache.plan_append([slots[i] for i in unknown], [1] * len(unknown))
            tokens = torch.full((len(unknown),), self.tokenizer.sot)  # (n_unknown,)
            hidden = self.model.decoder(tokens, self._cache, plan).hidden  # (n_unknown, n_text_state)
            choices, before = zip(*((batch[i].languages, batch[i].language_before) for i in unknown), strict=True)
            found = self.rules.detect(self.model.decoder.screen(hidden), choices, before)
            for i, language in zip(unknown, found, strict=True):
                languages[i] = language
        return languages

    def _unknown(self, batch: Sequence[StepRequest]) -> list[int]:
        """Indices of the requests whose language is to be detected; a model of one language detects none."""
        return [i for i, r in enumerate(batch) if r.language is None and self.tokenizer.multilingual]

    def _row(self, request: StepRequest, slot: int, n_positions: int, detected: Detected) -> Row:
        """The row of a request: its context, what of it is cached, and its token budget."""
        language, tokenizer = detected.language, self.tokenizer
        start = (*tokenizer.sot_sequence(language, request.task), tokenizer.no_timestamps)
        before = self._prompt(request, len(start))
        context = (*before, *start, *request.prefix)
        plausible = token_budget(request.log_mel.shape[1], language, len(request.prefix), len(request.draft))
        self._cache.set_length(slot, 0)
        is_reused = self.options.kv_reuse and request.prefix and not self.window_encoder.is_outgrown(request)
        return Row(
            request,
            slot,
            n_positions,
            language,
            context,
            sot_at=len(before),
            n_cached=self._take_over(slot, request, context) if is_reused else 0,
            budget=min(self.model.dims.n_text_ctx - len(context), plausible),
            max_serial=self.options.max_serial,
            language_prob=detected.prob,
        )

    def _prompt(self, request: StepRequest, n_start: int) -> tuple[int, ...]:
        """
        The end of the prompt behind `sot_prev`, before `n_start` start tokens; empty without prompt.

        It takes at most half of the room, less where the draft shows that the text needs more: new text is worth more
        than old.
        """
        dims = self.model.dims
        room = dims.n_text_ctx - n_start - len(request.prefix)
        if room < MIN_ROOM:
            raise ValueError(f"prefix of {len(request.prefix)} tokens leaves {room} of {dims.n_text_ctx} for new ones")
        n = min(dims.max_prompt, room // 2 - 1, room - wanted_tokens(len(request.draft)) - 1)
        prompt = request.prompt[-n:] if n > 0 else ()
        return (self.tokenizer.sot_prev, *prompt) if prompt else ()

    def _take_over(self, slot: int, request: StepRequest, context: Sequence[int]) -> int:
        """Copy the cached keys and values that `context` shares with the last step into a slot; number of tokens."""
        cached = self._texts.of(request.session, request.window)
        # attention at a token aligns the next one, so the anchor needs the token before it run again
        n = cached.n_shared(context[: max(0, len(context) - 1 - request.anchor_tokens)])
        self._cache.set_text(slot, cached.keys_values[:, :, :, :n])
        return n

    def _verify(self, rows: list[Row]) -> DecoderPass:
        """Run uncached context and draft of every row in one pass; keep each draft as far as greedy decoding agrees."""
        started = self._clock()
        segments = segments_of(rows)
        output = self._pass(rows, [segment.tokens for segment in segments])
        choice = self._choose_after(segments, output.hidden)
        for segment in segments:
            row = segment.row
            row.accept_draft(choice.tokens[segment.choices], choice.logprobs[segment.choices], self.tokenizer.eot)
            row.add_queries(output.queries, segment.first, segment.n_read)
            self._cache.set_length(row.slot, row.n_cached + segment.n_read)
        return self._passed("verify", rows, started)

    def _choose_after(self, segments: Sequence[Segment], hidden: Tensor) -> Choice:
        """Greedy choices from the hidden states (n_tokens, n_text_state); sets the rows' no-speech probability."""
        with_start = [(segment.row, at) for segment in segments if (at := segment.start_at) is not None]
        # logits are computed only where they are read: n_vocab is large
        choices_at = [*itertools.chain.from_iterable(segment.chosen_at for segment in segments)]
        read_at = torch.tensor([*choices_at, *(at for _, at in with_start)]).to(self.model.device)  # (n_read,)
        logits = self.model.decoder.screen(hidden[read_at])  # (n_read, n_vocab)
        n = len(choices_at)
        for (row, _), probability in zip(with_start, self.rules.no_speech(logits[n:]), strict=True):
            row.no_speech_prob = probability
        self._keyterms.boost(logits, [context for segment in segments for context in segment.contexts()])
        return self.rules.choose(logits[:n], restrictions_of(segments, self.rules.begins_word))

    def _decode(self, rows: list[Row]) -> list[DecoderPass]:
        """Serial greedy decoding: one token per active row and pass, until every row is done; the passes."""
        active, passes = [row for row in rows if not row.done], []
        while active:
            started = self._clock()
            logits, queries = self._next(active)  # (n_active, n_vocab), (n_active, n_alignment_heads, d_head)
            self._keyterms.boost(logits, [row.token_context(row.tokens) for row in active])
            attached = [i for i, row in enumerate(active) if self._touches_word(row)]
            choice = self.rules.choose(logits, Restrictions(attached=attached))
            for i, row in enumerate(active):
                row.add_queries(queries, i, 1)
                row.append(choice.tokens[i], choice.logprobs[i], self.tokenizer.eot)
            passes.append(self._passed("decode", active, started))
            active = [row for row in active if not row.done]
        return passes

    def _search(self, rows: list[Row]) -> list[DecoderPass]:
        """Where the greedy text of the one row is doubtful, take that of a beam search instead; the passes."""
        if self.options.beams == 1 or not is_doubtful(rows[0].logprobs):
            return []
        [row], started = rows, self._clock()
        eot, width = self.tokenizer.eot, self.options.beams
        search = BeamSearch(self._run, self.model, self._cache, self.rules, self._keyterms, width=width, eot=eot)
        row.take(search.best(row))
        # its words lie where the attention of its tokens is, each at the token before: the last one of a text without
        # end is not run
        read = (*row.context, *(row.tokens if row.ended else row.tokens[:-1]))
        self._cache.set_length(row.slot, 0)
        row.add_queries(self._pass([row], [read]).queries, 0, len(read))
        return [self._passed("decode", rows, started)]

    def _touches_word(self, row: Row) -> bool:
        """Whether the next token would extend a committed word: no token of this step has begun a new one."""
        return row.follows_words and not any(self.rules.begins_word(token) for token in row.tokens)

    def _next(self, rows: list[Row]) -> tuple[Tensor, Tensor]:
        """Run each row's last token: logits of the next one, (n_rows, n_vocab), and the alignment heads' queries."""
        if self._captured is not None:
            return self._captured([row.slot for row in rows], [row.tokens[-1] for row in rows])
        output = self._pass(rows, [[row.tokens[-1]] for row in rows])
        return self.model.decoder.screen(output.hidden), output.queries

    def _pass(self, rows: Sequence[Row], new_tokens: Sequence[Sequence[int]]) -> DecoderOutput:
        """One decoder pass: append each row's new tokens to its slot and run them."""
        return self._run([row.slot for row in rows], new_tokens)

    def _run(self, slots: Sequence[int], new_tokens: Sequence[Sequence[int]]) -> DecoderOutput:
        """One decoder pass: append new tokens to each of these slots and run them."""
        plan = self._cache.plan_append(slots, [len(tokens) for tokens in new_tokens])
        tokens = torch.tensor([*itertools.chain.from_iterable(new_tokens)])  # (n_tokens,)
        output: DecoderOutput = self.model.decoder(tokens, self._cache, plan)
        return output

    def _settled_texts(self, rows: list[Row]) -> list[tuple[StepRequest, TextKV]]:
        """Copy the keys and values of each window's settled tokens, for its next step."""
        texts = []
        for row in rows:
            request = row.request
            if self.options.kv_reuse and request.window_start is not None and request.settled_tokens:
                n = len(row.context) - len(request.prefix) + min(request.settled_tokens, len(request.prefix))
                kept = TextKV(row.context[:n], self._cache.text_of(row.slot, n, self.model.dtype))
                texts.append((request, kept))
        return texts

    def _remember(self, settled: Sequence[SettledWindow], texts: Sequence[tuple[StepRequest, TextKV]]) -> None:
        """Cache what is settled of each window: last in a step, so a failed step changes nothing."""
        self.window_encoder.keep(settled)
        for request, text in texts:
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
                language_prob=row.language_prob,
            )
            for row, starts in zip(rows, self._starts(rows), strict=True)
        ]

    def _starts(self, rows: list[Row]) -> list[list[int]]:
        """Start of each row's anchor, new tokens and end of text; audio positions counted from `_anchor`."""
        # on a CPU each row by itself: together they would be padded to the longest one
        together = [[row] for row in rows] if self._cache.row_by_row else [rows]
        return monotone_starts([cost for some in together for cost in self._costs(some)])

    def _costs(self, rows: Sequence[Row]) -> list[Tensor]:
        """Cost of each row's aligned tokens at each audio position from `_anchor`, (n_aligned, n)."""
        # the prompt, before the start token, has no audio; each (n, n_alignment_heads, d_head)
        queries = [torch.cat(row.queries)[max(0, row.sot_at - row.n_cached) :] for row in rows]
        sizes = [(len(each), row.n_positions) for each, row in zip(queries, rows, strict=True)]
        slots, n_positions = [row.slot for row in rows], max(row.n_positions for row in rows)
        padded = pad_sequence(queries, batch_first=True)  # (n_rows, n, n_alignment_heads, d_head)
        scores = self.model.decoder.align(padded, self._cache, slots, n_positions)  # (n_rows, n_heads, n, n_positions)
        tokens = [n - row.n_aligned for (n, _), row in zip(sizes, rows, strict=True)]
        positions = [self._anchor(row) for row in rows]
        token, position = min(tokens), min(positions)
        # (n_rows, n - token, n_positions - position)
        costs = alignment_cost(scores, sizes, first_token=token, first_position=position)
        items = zip(costs, tokens, positions, sizes, strict=True)
        return [cost[at - token : n - token, start - position : end - position] for cost, at, start, (n, end) in items]

    def _anchor(self, row: Row) -> int:
        """First audio position at which new tokens may begin."""
        return min(int(row.request.anchor_s / POSITION_S), row.n_positions - 1)

    def _times(self, row: Row, starts: list[int]) -> tuple[float, ...]:
        """Start of each new token and the end of the last one, seconds in the window."""
        n_new = len(row.tokens) + (1 if row.ended else 0)
        positions = [self._anchor(row) + start for start in starts[len(starts) - n_new :]]
        ends = positions if row.ended else [*positions, row.n_positions]
        return tuple(round(position * POSITION_S, 3) for position in ends)
