"""Code: what a model makes of small functions, judged by running them under a guard."""
