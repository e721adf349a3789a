"""Tsugiki (接ぎ木, grafting): graft a new language onto an open-weight language model."""

__version__ = "0.1.0"
