"""What ends or removes Pods of its own accord: garbage collection, eviction, rotation of logs."""
