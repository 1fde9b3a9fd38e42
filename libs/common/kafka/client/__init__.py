"""Clients and what every one of them needs: configuration, sign-in, log lines, what errors mean, metrics."""
