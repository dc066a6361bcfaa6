"""Measurements: word errors and latencies over manifests, capacity, replays of recorded sessions."""
