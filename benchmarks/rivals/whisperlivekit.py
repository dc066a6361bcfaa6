"""WhisperLiveKit as a system: its server with one of its two policies, and its client."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rivals.environments import WHISPERLIVEKIT, Environment
from benchmarks.rivals.sockets import CLOSED, plain_socket, saying
from benchmarks.rivals.speaker import Speaker
from benchmarks.rivals.weights import Weights

COALESCE = ("--asr-coalesce-min-s", "1")
"""Decodes once so much is new, else for every few hundredths of a second."""


@dataclass(frozen=True)
class WhisperLiveKit:
    """WhisperLiveKit over faster-whisper; with AlignAtt ("simulstreaming") only the encoder is."""

    name: str
    policy: str
    options: tuple[str, ...]
    environment: Environment | None = WHISPERLIVEKIT

    def command(self, python: Path, port: int, weights: Weights) -> list[str]:
        """Raw samples, no warm-up from the network."""
        models = {
            "localagreement": ["--model_dir", str(weights.ctranslate2)],
            "simulstreaming": [
                *("--decoder-model-path", str(weights.openai)),
                *("--encoder-model-path", str(weights.ctranslate2)),
            ],
        }
        address = ["--host", "127.0.0.1", "--port", str(port)]
        policy = ["--backend", "faster-whisper", "--backend-policy", self.policy, *models[self.policy]]
        sound = ["--pcm-input", "--language", "en", "--warmup-file", "", "--log-level", "WARNING"]
        return [str(python), "-m", "whisperlivekit.basic_server", *address, *policy, *sound, *self.options]

    async def converse(self, port: int, speaker: Speaker) -> None:
        """Each message has all lines; speaker -2 is silence."""
        address = f"ws://127.0.0.1:{port}/asr?mode=full"
        async with plain_socket(address) as socket, saying(socket, speaker, b""):
            async for message in socket:
                answer = json.loads(message)
                if answer.get("type") == "ready_to_stop":
                    return
                if answer.get("error"):
                    raise ConnectionError(answer["error"])
                if "lines" in answer:
                    lines = [line["text"] for line in answer["lines"] if line.get("text") and line["speaker"] != -2]
                    speaker.sees(" ".join(lines), answer.get("buffer_transcription") or "")
        raise ConnectionError(CLOSED)
