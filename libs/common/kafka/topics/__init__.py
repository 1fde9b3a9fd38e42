"""Topics: their declaration, their limits, and the rights on them."""
