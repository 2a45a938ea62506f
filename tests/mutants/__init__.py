"""Small faults that are put into copies of labkit, one at a time: do the tests notice? `python -m tests.mutants` says so."""
