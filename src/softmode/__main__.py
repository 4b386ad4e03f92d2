"""`python -m softmode` is the command line."""

from softmode.cli import main

main()
