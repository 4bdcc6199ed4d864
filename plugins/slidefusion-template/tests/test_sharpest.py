"""All laws that a fuser has to keep, inherited."""

from typing import ClassVar

from slidefusion_template import Sharpest

from slidefusion.testing import FuserContract


class TestSharpest(FuserContract):
    fuser_class = Sharpest
    # Every configuration to prove.
    options: ClassVar = [{}, {"radius": 1}, {"radius": 32}]
