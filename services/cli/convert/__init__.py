"""``blobtide convert``: flow-log files to rows, without any server."""
