"""Every constraint that the installed compiler publishes belongs to one rule."""

import json
import subprocess
import sys

import pytest

from mlia.results import Constraint
from mlia.rules.catalog import all_rules
from mlia.rules.rule import ConstraintRule

LIST = "import json, sys; from ethosu import regor; print(json.dumps(regor.tflite_operator_constraints(sys.argv[1])))"


def published(architecture: str) -> set[str]:
    """The sentences, as the log of the compiler quotes them."""
    done = subprocess.run([sys.executable, "-c", LIST, architecture], capture_output=True, text=True, check=True)
    sentences = {text for texts in json.loads(done.stdout).values() for text in texts}
    return {"; ".join(line.strip() for line in text.splitlines() if line.strip()) for text in sentences}


@pytest.mark.parametrize("architecture", ["EthosU55", "EthosU65", "EthosU85"])
def test_every_published_constraint_belongs_to_one_rule(architecture: str) -> None:
    rules = [rule for rule in all_rules() if issubclass(rule, ConstraintRule)]
    sentences = published(architecture)
    assert len(sentences) > 30
    for sentence in sentences:
        owners = [rule.code for rule in rules if rule.is_about(Constraint("", sentence))]
        assert len(owners) == 1, f"{sentence}: {owners}"
