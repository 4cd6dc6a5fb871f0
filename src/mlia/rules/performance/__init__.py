"""What takes time that it need not take."""
