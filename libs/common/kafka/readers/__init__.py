"""Read topics without a group."""
