"""collector: asks Azure Resource Manager for configuration.

A request is a message that lists calls of the API. `requests` checks it and turns it into calls; nothing in a message chooses
the server.
"""
