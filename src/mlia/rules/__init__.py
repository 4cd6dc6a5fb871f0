"""What is advised: a class for each offense, whose docstring is its page.

Called, as mlia.rules(), it lists the rules.

Returns:
    a tuple of RuleSummary values in the order of their codes; str() says what one finds.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlia.rules.catalog import RuleSummary


class _Rules(type(sys)):  # type: ignore[misc]  # the type of modules
    def __call__(self) -> "tuple[RuleSummary, ...]":
        from mlia.rules.catalog import summaries

        return summaries()


sys.modules[__name__].__class__ = _Rules
