"""
A plain live server: faster-whisper in int8, and LocalAgreement-2 on a growing buffer; run by its own interpreter.

    python serve_local_agreement.py PORT FOLDER --step 1.0 --workers 1 --threads 2

Each client sends 16-bit samples at 16 kHz, then the text "end". Once `step` seconds are new its whole buffer is decoded
again, greedily; words on which two successive hypotheses agree are final. Past 15 s the buffer is cut behind a segment
that is final. Clients wait in the order in which they were served last. Answers are JSON: `final` (new words), `tail`,
`is_last`.

Source: Liu et al. 2020, "Low-Latency Sequence-to-Sequence Speech Recognition and Translation by Partial Hypothesis
Selection"; Macháček et al. 2023, "Turning Whisper into Real-Time Transcription System".
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from websockets.asyncio.server import ServerConnection

RATE = 16_000
CUT_S, CUT_ANYWHERE_S, DROP_S, KEPT_S = 15.0, 20.0, 25.0, 5.0
"""A buffer is cut behind a final segment, behind any final word, or, with nothing final, down to its newest sound."""
PROMPT_CHARACTERS = 200
SEAM_S, MAX_SEAM_WORDS = 1.0, 5
"""Words that are heard again where the final ones end are dropped, up to so many."""


@dataclass(frozen=True, slots=True)
class Word:
    """Times are seconds of the stream."""

    text: str
    start_s: float
    end_s: float

    @property
    def key(self) -> str:
        """Without case and punctuation."""
        return re.sub(r"\W", "", self.text.lower())


@dataclass(slots=True)
class Agreement:
    """Final words and the open rest of the newest hypothesis."""

    final: list[Word] = field(default_factory=list)
    tail: list[Word] = field(default_factory=list)

    def hear(self, hypothesis: Sequence[Word], is_last: bool) -> list[Word]:
        """Take a hypothesis about the whole buffer; the words that are final now. All of them if it is the last."""
        fresh = self._beyond_final(hypothesis)
        n = len(fresh)
        if not is_last:
            pairs = enumerate(zip(fresh, self.tail, strict=False))
            n = next((i for i, (a, b) in pairs if a.key != b.key), min(n, len(self.tail)))
        self.final += fresh[:n]
        self.tail = fresh[n:]
        return fresh[:n]

    def _beyond_final(self, hypothesis: Sequence[Word]) -> list[Word]:
        end_s = self.final[-1].end_s if self.final else 0.0
        fresh = [word for word in hypothesis if word.start_s > end_s - 0.1]
        if self.final and fresh and fresh[0].start_s - end_s < SEAM_S:
            for n in range(min(MAX_SEAM_WORDS, len(fresh), len(self.final)), 0, -1):
                if [w.key for w in self.final[-n:]] == [w.key for w in fresh[:n]]:
                    return fresh[n:]
        return fresh

    def prompt(self, buffer_start_s: float) -> str:
        """The newest final text that is no longer in the buffer."""
        return " ".join(w.text for w in self.final if w.end_s <= buffer_start_s)[-PROMPT_CHARACTERS:]

    def cut_s(self, start_s: float, end_s: float, segment_ends_s: Sequence[float]) -> float:
        """Where the buffer should begin from now on, given where the segments of the newest hypothesis end."""
        length_s = end_s - start_s
        final_s = self.final[-1].end_s if self.final else start_s
        if length_s > CUT_S and final_s > start_s:
            # the last segment may still grow
            ends_s = [s for s in segment_ends_s[:-1] if s <= final_s + 0.05]
            return max([start_s, *ends_s, *([final_s] if length_s > CUT_ANYWHERE_S else [])])
        return end_s - KEPT_S if length_s > DROP_S else start_s


@dataclass(slots=True)
class Client:
    """One stream; `step` runs on a thread, the rest on the event loop."""

    socket: ServerConnection
    inbox: list[bytes] = field(default_factory=list)
    has_ended: bool = False
    is_busy: bool = False
    served_at: float = 0.0
    buffer: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    start_s: float = 0.0
    agreement: Agreement = field(default_factory=Agreement)

    def is_due(self, step_s: float) -> bool:
        """Whether enough is new, or nothing more will come."""
        new_s = sum(map(len, self.inbox)) / 2 / RATE
        return not self.is_busy and (self.has_ended or new_s >= step_s)

    def step(self, model: WhisperModel, new: bytes, is_last: bool) -> str:
        """Decode the buffer with the new samples; the answer to the client."""
        self.buffer = np.concatenate([self.buffer, np.frombuffer(new, "<i2").astype(np.float32) / 32768])
        prompt = self.agreement.prompt(self.start_s) or None
        options = {"beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False, "initial_prompt": prompt}
        segments = list(model.transcribe(self.buffer, language="en", word_timestamps=True, **options)[0])
        at_s = self.start_s
        words = [Word(w.word.strip(), at_s + w.start, at_s + w.end) for s in segments for w in s.words or ()]
        final = self.agreement.hear(words, is_last)
        self._cut([at_s + segment.end for segment in segments])
        texts = ([w.text for w in final], [w.text for w in self.agreement.tail])
        return json.dumps({"final": " ".join(texts[0]), "tail": " ".join(texts[1]), "is_last": is_last})

    def _cut(self, segment_ends_s: Sequence[float]) -> None:
        end_s = self.start_s + len(self.buffer) / RATE
        cut_s = min(end_s, self.agreement.cut_s(self.start_s, end_s, segment_ends_s))
        self.buffer = self.buffer[int((cut_s - self.start_s) * RATE) :]
        self.start_s = cut_s


class Server:
    """All clients on one model, which decodes for as many at once as it has workers."""

    def __init__(self, model: WhisperModel, step_s: float) -> None:
        self._model, self._step_s = model, step_s
        self._clients: list[Client] = []
        self._changed = asyncio.Condition()

    async def converse(self, socket: ServerConnection) -> None:
        """One client, until it leaves or has all its words."""
        client = Client(socket)
        self._clients.append(client)
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    client.inbox.append(message)
                else:
                    client.has_ended = True
                async with self._changed:
                    self._changed.notify()
        finally:
            if client in self._clients:
                self._clients.remove(client)

    async def work(self) -> None:
        """Serve whoever waits longest, for ever."""
        while True:
            async with self._changed:
                await self._changed.wait_for(self._due)
                client = min(self._due(), key=lambda c: c.served_at)
            await self._serve(client)

    def _due(self) -> list[Client]:
        return [client for client in self._clients if client.is_due(self._step_s)]

    async def _serve(self, client: Client) -> None:
        client.is_busy, client.served_at = True, time.monotonic()
        is_last, new = client.has_ended, b"".join(client.inbox)
        client.inbox.clear()
        answer = await asyncio.to_thread(client.step, self._model, new, is_last)
        client.is_busy = False
        if is_last and client in self._clients:
            self._clients.remove(client)
        await asyncio.gather(client.socket.send(answer), return_exceptions=True)  # who has left needs no answer


async def serve(port: int, model: WhisperModel, step_s: float, n_workers: int) -> None:
    """Until killed, or until decoding fails."""
    from websockets.asyncio.server import serve as listen

    server = Server(model, step_s)
    async with listen(server.converse, "127.0.0.1", port, compression=None, ping_interval=None):
        await asyncio.gather(*(server.work() for _ in range(n_workers)))


def main() -> None:
    """Load the model, serve."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("port", type=int)
    arguments.add_argument("model")
    arguments.add_argument("--step", type=float, default=1.0)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=1, help="of each worker")
    args = arguments.parse_args()
    from faster_whisper import WhisperModel

    pool = {"cpu_threads": args.threads, "num_workers": args.workers}
    model = WhisperModel(args.model, device="cpu", compute_type="int8", **pool)
    asyncio.run(serve(args.port, model, args.step, args.workers))


if __name__ == "__main__":
    main()
