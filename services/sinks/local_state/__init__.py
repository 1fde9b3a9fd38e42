"""State on a local disk, for destinations that have no memory of their own: spools, shards, positions."""
