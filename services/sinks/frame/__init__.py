"""The framework of all sinks: the contract, the batch handler, the registry of kinds, settings, metrics."""
