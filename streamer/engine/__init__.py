"""Runs steps on the device: window encoding, draft verification, decoding, word times. The only user of the network."""
