"""``blobtide analyze-logs``: sums over the rows of logs: volume, levels, errors, requests and how long they took."""
