"""Many slides from one manifest: checked, converted and fused, with one table of their states.

``manifest`` reads and checks the rows, ``status`` keeps what became of them, ``slide`` makes one,
``run`` makes all (:func:`slidefusion.batch`), ``view`` shows how far it is.
"""
