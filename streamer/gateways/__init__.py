"""Several gateway processes on one port: their parent, the hub in it that knows what they share, and their side."""
