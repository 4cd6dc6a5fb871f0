"""Fine-tuning in JAX: a graph as a function, and its weights as they are trained."""
