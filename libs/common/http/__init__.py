"""HTTP to clusters of servers: host rotation, sign-in, TLS, Retry-After."""
