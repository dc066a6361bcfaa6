"""Audio input: decode bytes and files to samples at 16 kHz; mel frames and voice probabilities of them."""
