"""Objects: verbs, defaults, validation, patches, server-side apply."""
