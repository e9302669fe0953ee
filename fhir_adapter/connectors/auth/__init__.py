"""Credentials: what is shown to a server, to which one, and how it is had and renewed."""
