"""Multi-process runs: process groups and FSDP2 sharding."""
