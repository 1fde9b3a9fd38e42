"""collector: asks Azure Resource Manager for configuration.

Reads ``Collection.Requests``, and when it begins ``Collection.State`` and ``Meta.Resources``; writes ``Collection.Results``,
``Meta.Resources``, ``Meta.ResourceChanges``, ``Collection.State`` and ``Errors``. Exactly once inside Kafka: answers, changed
resources and what has changed in them, how far each call has come, and the offsets of requests that are over are one
transaction. If Azure does not answer, or throttles, calls wait; if the process dies, another one continues with the page after
the last transaction. A call that Azure refuses ends with an error in its results and a dead letter. A call that changes
something may be made again.

Messages of a queue of Azure Storage become records of ``Collection.Requests``, and are deleted only after that; a message may
be written twice, and does nothing the second time, because requests are known by their ids. Schedules add requests to the same
topic, and so does the API, apart from the transactions: it answers when Kafka has acknowledged the request.
"""
