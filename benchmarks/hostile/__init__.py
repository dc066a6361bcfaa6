"""Attacks on a daemon of this machine, each beside an honest stream."""
