"""The duration of an Opus packet, which its first bytes tell (RFC 6716, section 3.1). Pure."""

from __future__ import annotations


def n_samples(packet: bytes) -> int:
    """Duration of a packet in samples at 48 kHz; `packet` is not empty."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    n_frames = (1, 2, 2, packet[1] & 0x3F if len(packet) > 1 else 0)[code]
    return frame * n_frames
