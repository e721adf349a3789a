"""The sample of instructions: conversations written for the project, and exercises made from a seed.

`write_sample` lays both out as chat sources; `written` and `generated` give them, the held-out ones apart.
"""
