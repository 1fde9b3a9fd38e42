"""What travels through topics besides rows: names of blobs, control events, segments, dead letters."""
