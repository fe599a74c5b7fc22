"""Reading a table: its cells, its columns, its target, its parts."""
