"""Objects in SQLite with one version counter, lists and watches."""
