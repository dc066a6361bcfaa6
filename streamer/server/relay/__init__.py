"""Clients of other protocols, each relayed to native sessions."""
