"""A TFLite file run by LiteRT on given samples: a child process of ours, importing nothing of mlia."""

import os
import sys
from typing import Any

# This folder is on the path for this import only: its modules are named like packages that others look for.
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from converter_child import Refusal, first_line, serve

sys.path.pop()


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run request["model"] on the samples in request["samples"] and write the outputs to request["output"].

    Arrays are called "sample:position"; with request["all"] every tensor is written, as "sample:index".
    """
    import numpy
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    every = request["all"]
    found = {}
    try:
        interpreter = Interpreter(
            model_path=request["model"],
            num_threads=1,
            experimental_preserve_all_tensors=every,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        with numpy.load(request["samples"]) as samples:
            for sample in sorted({name.split(":")[0] for name in samples.files}):
                for position, detail in enumerate(inputs):
                    interpreter.set_tensor(detail["index"], samples[f"{sample}:{position}"].astype(detail["dtype"]))
                interpreter.invoke()
                if every:
                    wanted = {op_output for op in interpreter._get_ops_details() for op_output in op["outputs"]}
                    found.update({f"{sample}:{index}": interpreter.get_tensor(index) for index in sorted(wanted)})
                else:
                    for position, detail in enumerate(outputs):
                        found[f"{sample}:{position}"] = interpreter.get_tensor(detail["index"])
    except (RuntimeError, ValueError) as error:
        raise Refusal(f"LiteRT cannot run it: {first_line(error)}") from None
    numpy.savez(request["output"], **found)
    return {}


if __name__ == "__main__":
    serve(run)
