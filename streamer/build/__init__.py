"""Builds a service from a configuration: weights, arithmetic, warm-up, measured cost, scheduler."""
