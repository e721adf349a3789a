"""Judging models: fourteen tasks in two languages through lm-eval, small built-in probes, tables that say how certain
each number is."""
