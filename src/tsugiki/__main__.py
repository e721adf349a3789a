"""`python -m tsugiki`, the form that `torchrun -m` needs."""

from tsugiki.cli import main

if __name__ == "__main__":
    main()
