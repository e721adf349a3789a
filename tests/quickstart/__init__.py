"""A package to pytest, so that its fixtures of package scope, which change the program, end before other tests begin."""
