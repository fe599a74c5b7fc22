"""`python -m stackwise`."""

from stackwise.cli.entry import main

main()
