"""Thousands of streams on a simulated clock, served by the scheduler, the pool and the hosts that serve real ones."""
