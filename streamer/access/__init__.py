"""Who may come in: API keys, page tokens, Origin and Host checks, connection limits, TLS."""
