"""An Ethos-U executed, in numpy: commands, weights, memory, arithmetic, and what a run cannot show."""
