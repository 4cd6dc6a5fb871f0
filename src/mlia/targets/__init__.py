"""Where a model runs: NPUs, memories, hosts, and the profiles that describe them."""
