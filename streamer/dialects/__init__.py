"""
What existing clients speak: each dialect is a pure projection of the events of `captions.v1`, with a small adapter
that carries it over its transport.
"""
