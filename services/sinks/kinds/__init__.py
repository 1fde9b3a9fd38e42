"""The destinations: a module each, a package where one has several."""
