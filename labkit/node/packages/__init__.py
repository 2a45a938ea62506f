"""Where the programs of a node come from: Debian packages, unpacked into the cache; releases of the runtime."""
