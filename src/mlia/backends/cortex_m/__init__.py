"""A Cortex-M: which kernel runs an operator, what that costs, and how much arena the model needs."""
