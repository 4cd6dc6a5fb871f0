"""`mlia verify`, `run` and `trace`: what the compiler made, executed and explained."""
