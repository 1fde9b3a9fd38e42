"""What every sink stands in: the contract, the handler of batches, the table of kinds, settings, metrics."""
