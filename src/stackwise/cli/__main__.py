"""`python -m stackwise.cli`."""

from stackwise.cli.entry import main

main()
