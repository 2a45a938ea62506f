"""What a private node puts on this machine: configuration, services, bridge and subnet, relays, processes."""
