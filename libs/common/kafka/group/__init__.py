"""Membership in a consumer group: positions, partitions that belong together, lag."""
