"""State on a local disk, for destinations that cannot keep it themselves: spools, shards, positions."""
