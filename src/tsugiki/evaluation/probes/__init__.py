"""Probes: small questions that need no data and no extra, on which even a tiny model can be seen to move."""
