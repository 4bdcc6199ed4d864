"""A pack of weights for slidefusion, found through the entry point ``large``."""
