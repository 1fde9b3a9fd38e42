"""HTTP to servers that hold rows: hosts in turn, sign-in, TLS, Retry-After."""
