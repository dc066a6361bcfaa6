"""Measures: word errors and delays over manifests, capacity, replays of recorded sessions."""
