"""Membership in a consumer group: positions, co-partitioned topics, lag."""
