from mlia.recipe import *  # noqa
