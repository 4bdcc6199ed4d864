"""Synthetic cervical smears with exactly known all-in-focus truth and depth.

>>> from slidefusion.phantom import Phantom
>>> Phantom(512, 512, planes=3, seed=1).shape
(3, 3, 512, 512)
"""

from slidefusion.phantom.phantom import PHANTOM_VERSION, Phantom
from slidefusion.phantom.render import PhantomRegion
from slidefusion.phantom.settings import PhantomSettings

__all__ = ["PHANTOM_VERSION", "Phantom", "PhantomRegion", "PhantomSettings"]
