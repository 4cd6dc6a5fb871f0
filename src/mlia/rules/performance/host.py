"""Whether the NPU is worth having for the model at all."""

from collections.abc import Iterator

from mlia.advice import Severity
from mlia.cpu_results import SystemTime
from mlia.rules.rule import Case, Finding, NpuRule, Rule


class SlowerThanHost(NpuRule):
    """The host alone would be faster than the host with the NPU.

    ## Why it matters
    An NPU needs large operators. Where steps are short, it waits for first data, for commands or for being started,
    while a Cortex-M with vector instructions is done.

    ## How it is found
    The whole model is estimated on the host alone too, with a band. It is said only if the host is faster even at the
    slow end of its band.

    ## What to do
    Run the model on the host, and see what `mlia check` says of it there. Or give the NPU fewer and larger steps, or
    faster memory: advice that helps with either is shown with it.

    ## Limits
    Estimates both. While the NPU works, the host can sleep or do other things, which may be worth the time.

    ## Source
    mlia's Cortex-M model beside Vela 5.2's own estimate: an LSTM of 28 steps over 28 numbers takes 0.79 ms on
    ethos-u85-256, and 0.11 to 0.50 ms on its Cortex-M85 alone.
    """

    code = "PER030"
    name = "npu-slower-than-host"
    severity = Severity.WARNING

    def skip(self, case: Case) -> str:
        system = case.performance.system
        if not isinstance(system, SystemTime) or system.cpu_alone is None or system.speedup_high is None:
            return "the time on the host alone is not known"
        return "" if case.performance.memory is not None else "nothing runs on the NPU"

    def check(self, case: Case) -> Iterator[Finding]:
        system = case.performance.system
        if not isinstance(system, SystemTime) or system.cpu_alone is None or system.speedup_high is None:
            return
        latency_ms = case.performance.latency_ms or 0.0
        if system.speedup_high < 1:
            alone = system.cpu_alone
            yield Finding(
                (),
                f"{latency_ms:.3g} ms with the NPU, {alone.latency_ms:.3g} ms ({alone.low_ms:.3g} to"
                f" {alone.high_ms:.3g}) on the {case.target.host.name} alone",
                f"Run it on the host, unless other advice makes it faster: `mlia check -t {case.target.host.core}`.",
                why_not_tried="remedies are tried with the NPU",
                at_stake_ms=max(latency_ms - alone.latency_ms, 0.0),
            )


RULES: tuple[type[Rule], ...] = (SlowerThanHost,)
