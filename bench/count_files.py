"""How many of our files one check enters: `python bench/count_files.py`.

A file is entered when one of its functions is called. Importing it alone, for the data types that it
defines, is counted apart. The child process that runs the compiler enters a file that is counted already.
"""

import argparse
import sys
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src/mlia"
GOAL = 15


def main() -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    functions: set[tuple[str, str]] = set()
    imported: set[str] = set()

    def watch(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(SOURCE)):
            name = str(Path(code.co_filename).relative_to(SOURCE))
            if code.co_name == "<module>":
                imported.add(name)
            elif frame.f_back is not None and frame.f_back.f_code.co_name != "__build_class__":
                # Class bodies look like calls; they are named as the class is, and belong to the import.
                if not code.co_flags & 0x0002:  # CO_NEWLOCALS: a function, not a class body
                    return
                functions.add((name, code.co_qualname))

    model = ROOT / "examples/ds_cnn_small_int8.tflite"
    sys.setprofile(watch)
    from mlia.cli.main import main as run

    code = run(["check", str(model), "-t", "ethos-u55-256"])
    sys.setprofile(None)
    entered = sorted({name for name, _ in functions})
    print(f"entered: {len(entered)} files (goal: at most {GOAL}), {len(functions)} functions", file=sys.stderr)
    print("  " + ", ".join(entered), file=sys.stderr)
    only = sorted(name for name in imported - set(entered) if (SOURCE / name).stat().st_size)
    print(f"imported only: {len(only)} files: {', '.join(only)}", file=sys.stderr)
    return code or int(len(entered) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
