"""Azure Resource Manager: calls of its API, over REST."""
