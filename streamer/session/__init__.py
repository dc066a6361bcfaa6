"""The state machine of one session: audio window, words, commits, turns. Pure: no I/O, no clock, no threads."""
