"""A pull by REST: candidates, then what is found by subject and by reference, each reconciled."""
