"""Results back to the server: build what is written, submit it once, read it back, retract it."""
