"""The conformance kit: what slidefusion's own fusers pass, and what plugin authors run.

A fuser's test file is a few lines::

    from slidefusion.testing import FuserContract

    class TestMine(FuserContract):
        fuser_class = Mine
        options = [{}, {"radius": 3}]

and then ``pytest``. It needs pytest and hypothesis, which only this package imports.
"""

from slidefusion.testing.contract import FuserContract

__all__ = ["FuserContract"]
