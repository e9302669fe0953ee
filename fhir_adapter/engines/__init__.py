"""Engines: what maps partitions of subjects, and the contract that all of them keep."""
