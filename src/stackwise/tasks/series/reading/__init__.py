"""How series are read, of whichever form their source is."""
