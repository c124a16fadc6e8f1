"""Run the command line as `python -m bertsmith`."""

from bertsmith.cli import main

main()
