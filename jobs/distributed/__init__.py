"""The only part of the project that knows Ray: cluster, shard pool, training workers."""
