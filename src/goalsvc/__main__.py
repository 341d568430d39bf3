"""`python -m goalsvc` is the same as the console script `goalsvc`."""

from goalsvc.cli import main

main()
