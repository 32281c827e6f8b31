"""`python -m databridge` is the command `databridge`."""

from databridge.cli import main

main()
