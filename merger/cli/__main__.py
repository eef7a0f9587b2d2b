"""Run the command as `python -m merger.cli`."""

from merger.cli import main

main()
