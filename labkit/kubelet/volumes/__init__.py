"""The volumes of a Pod: ConfigMaps, Secrets, projected ones, host paths, claims."""
