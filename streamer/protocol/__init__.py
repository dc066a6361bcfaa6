"""The messages, events and options of `captions.v1` as plain values, and which of them is legal when."""
