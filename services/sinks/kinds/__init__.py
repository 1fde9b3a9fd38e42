"""The kinds of destinations, each in a package of its own."""
