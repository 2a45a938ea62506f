"""The Pods' cgroups, by files or by systemd."""
