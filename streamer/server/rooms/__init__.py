"""Rooms: one speaker's captions for many read-only viewers."""
