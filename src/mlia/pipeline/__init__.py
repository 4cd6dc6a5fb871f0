"""The verbs: from a model and targets to a report."""
