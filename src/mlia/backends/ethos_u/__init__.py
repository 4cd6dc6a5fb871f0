"""How long an Ethos-U takes: the compiler's account of each step, and a model fitted to measurements."""
