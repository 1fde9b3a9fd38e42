"""The API of the collector: requests by HTTP, and how far they have come.

Every collector answers for all requests, whoever works on them: what it is sent goes to `Collection.Requests`, and what it is
asked is found in `Collection.State`. It works in threads of its own, so that neither waits for the main loop nor holds it up.
"""
