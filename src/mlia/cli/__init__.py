"""Arguments in, exit code out: a file for each verb, and what they share."""
