"""The training loop and everything that a step needs; read `loop.py` first."""
