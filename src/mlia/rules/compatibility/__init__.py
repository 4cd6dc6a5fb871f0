"""Why an operator is not on the NPU, and what would bring it there."""
