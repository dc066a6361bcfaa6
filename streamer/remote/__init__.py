"""Engines in processes of their own: messages, the host of an engine, and the gateway's side with its supervision."""
