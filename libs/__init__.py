"""Code that services share."""
