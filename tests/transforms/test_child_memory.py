"""What asks for more memory than a child may take is told in one line, and the machine does not suffer."""

import resource
import sys

import pytest

from mlia.errors import TransformError
from mlia.transforms.child import MEMORY_LIMIT_BYTES, call


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS does not let a process lower it")
def test_children_have_a_limit() -> None:
    assert call(resource.getrlimit, resource.RLIMIT_AS)[0] == MEMORY_LIMIT_BYTES


def test_beyond_it_is_an_error_of_the_user() -> None:
    with pytest.raises(TransformError, match="takes more than 8 GiB to compute"):
        call(bytes, 1 << 50)
