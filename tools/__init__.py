"""Command-line tools, each in a module of its own."""
