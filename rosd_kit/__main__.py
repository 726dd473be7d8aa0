"""`python -m rosd_kit` is `rosd-kit`."""

from rosd_kit.cli import main

main()
