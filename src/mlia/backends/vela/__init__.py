"""Arm's compiler: asked in a child process, and its tables read."""
