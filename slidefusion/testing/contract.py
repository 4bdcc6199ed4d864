"""The laws every fuser keeps, as one class of tests to inherit."""

from __future__ import annotations

from slidefusion.testing.cutting_laws import CuttingLaws
from slidefusion.testing.image_laws import ImageLaws
from slidefusion.testing.object_laws import ObjectLaws

__all__ = ["FuserContract"]


class FuserContract(CuttingLaws, ImageLaws, ObjectLaws):
    """Proves that a fuser keeps the protocol, on random slides and regions.

    Inherit it in a test file, name the fuser and the configurations to prove, and run pytest::

        class TestGuided(FuserContract):
            fuser_class = Guided            # or: def make_fuser(self, **options)
            options = [{}, {"radius": 3}]

    Every law runs once for each of ``options``; a failing one says what is wrong and what to do.
    The other knobs are ``dtypes``, ``channels``, ``examples``, ``identity_tolerance``,
    ``sharper_than`` and ``exempt``; see :class:`slidefusion.testing.base.ContractBase`.
    """
