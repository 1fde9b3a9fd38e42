"""Work in parallel: what is begun next, and the threads that do it."""
