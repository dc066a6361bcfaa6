"""The protocol `captions.v1`: messages, events and options as plain values, and the state machine of a connection."""
