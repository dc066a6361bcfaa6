"""
WhisperLive's server on one model for all clients, with batches; run by its own interpreter.

    python serve_whisper_live.py PORT FOLDER
"""

import sys

from whisper_live.server import TranscriptionServer


def main(port: int, model: str) -> None:
    """Serve until killed; limits that would turn clients away are lifted."""
    TranscriptionServer().run(
        "127.0.0.1",
        port=port,
        backend="faster_whisper",
        faster_whisper_custom_model_path=model,
        single_model=True,
        max_clients=1024,
        max_connection_time=3600,
        batch_enabled=True,
        batch_max_size=16,
        batch_window_ms=50,
        batch_beam_size=1,
        batch_max_queue_wait_s=60,
        batch_max_admissions_per_s=100,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
