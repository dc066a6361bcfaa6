"""Audio in: bytes and files of any encoding to samples at 16 kHz, then log-mel frames and voice probabilities."""
