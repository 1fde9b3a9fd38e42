"""Everything that travels through topics besides rows: blob ids, control events, segments, dead letters."""
