"""The child process that runs Vela's C++ core, which dies of a signal on some damaged models.

It is started by path, so that it imports nothing of ours. One line of JSON with the settings and then
the model come in on stdin; one JSON object goes out on stdout. All that the compiler prints, to either
stream, goes to stderr, which the parent keeps.
"""

import json
import os
import sys

# A damaged size field may ask for any amount of memory; this stops it before the machine suffers.
MEMORY_LIMIT_BYTES = 8 << 30
TABLES = ("source", "optimised", "queue", "group", "perf", "perf_debug", "perf_debug_main", "tensors", "cmdstream")


def limit_resources() -> None:
    """Bound the memory, and leave no core file. Windows has no such limits."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, hard))
    except (ValueError, OSError):
        pass  # macOS does not let a process lower it


def main() -> None:
    """Answer one request."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    limit_resources()
    from ethosu import regor  # while the parent still prepares the request

    settings = json.loads(sys.stdin.buffer.readline())
    model = sys.stdin.buffer.read()
    try:
        compiled = regor.compile(
            settings["architecture"], model, "TFLITE", settings["system_config"], options=settings["options"]
        )
    except (RuntimeError, ValueError, MemoryError) as error:
        output.write(json.dumps({"error": str(error) or type(error).__name__}))
        output.close()
        return
    report = compiled.perf_report
    answer = {
        "report": {
            "npu_cycles": report.npuCycles,
            "total_cycles": report.totalCycles,
            "macs": report.macCount,
            "weights_bytes": report.originalWeights,
            "compressed_weights_bytes": report.encodedWeights,
            "read_only_bytes": report.readOnlyPeakUsage,
            "memories": {
                str(name): {
                    "peak_bytes": memory.peakUsage,
                    "read_bytes": sum(access.bytesRead for access in memory.accesses.values()),
                    "write_bytes": sum(access.bytesWritten for access in memory.accesses.values()),
                }
                for name, memory in report.memories.items()
            },
        },
        "tables": {
            name: [table.header, *table.data] for name, table in compiled.opt_database.tables.items() if name in TABLES
        },
    }
    output.write(json.dumps(answer))  # dump() would not use the fast encoder
    output.close()


if __name__ == "__main__":
    main()
