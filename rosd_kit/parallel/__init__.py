"""Several processes: process groups and FSDP2 sharding."""
