"""`mlia calibrate`: measured runs -> coefficients of a target's own."""
