"""``python -m edgevid`` is the command line."""

from edgevid.cli import main

main()
