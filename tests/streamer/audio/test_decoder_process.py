"""Tests of streamer.audio.decoder_process; what its children do is tested with the pool that asks them."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from streamer.audio.decoder_process import preload

ROOT = Path(__file__).parents[3]


def test_everything_is_loaded_before_the_first_file() -> None:
    """Also what FFmpeg's binding loads only when it needs it."""
    preload()
    assert {"av.audio.stream", "av.video.stream", "soundfile", "soxr"} <= set(sys.modules)


def test_the_process_ends_when_its_caller_does() -> None:
    """The other side of its socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-m", "streamer.audio.decoder_process"]
        process = subprocess.Popen(command, stdin=theirs.fileno(), cwd=ROOT)
        theirs.close()
        ours.close()
        assert process.wait(120) == 0
