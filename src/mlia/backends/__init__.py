"""Who is asked: the compiler, the models of time, the simulator."""
