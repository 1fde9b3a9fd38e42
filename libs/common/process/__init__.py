"""The frame of every process: signals, probes, logs, crash points."""
