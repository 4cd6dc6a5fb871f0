"""A compiled model run: its command streams simulated, the host's part in LiteRT, all beside the reference."""
