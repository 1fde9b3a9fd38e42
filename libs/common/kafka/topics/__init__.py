"""Topics as things: their declaration, their limits, the rights on them."""
