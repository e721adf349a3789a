"""Experiments of many runs: sweeps judged by evaluation, and designs that tell what made the difference."""
