"""Measure the cost of each stage on this machine, against peers and limits in the same run: ``python -m benchmarks``.

CPU time is what counts, since wall time on a shared machine says more about the neighbours. Every figure states its durable end
point, and every stage checks that all tuples have arrived before reporting a figure.
"""
