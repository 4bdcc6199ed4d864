"""Running independent tasks to the end, on threads or on a cluster, whatever they do.

``scheduling`` decides what runs next and what runs again, ``pools`` is where it runs, ``outcomes``
what came of an attempt; ``placement``, ``requirements``, ``reach`` and ``preflight`` ask whether a
worker can do the work before it is sent; ``costs`` and ``report`` say what it took. ``interrupt``
carries Ctrl-C into other threads.
"""
