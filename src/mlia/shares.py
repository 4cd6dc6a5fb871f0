"""What a child process may have of the machine."""


def limit_memory(limit_bytes: int) -> None:
    """Bound the addresses of this process, and leave no core file. Windows has no such limits."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, hard))
    except (ValueError, OSError):
        pass  # macOS does not let a process lower it
