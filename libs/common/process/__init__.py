"""What every process has: a frame, signals, probes, logs, crash points."""
