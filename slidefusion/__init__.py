"""slidefusion: a focus stack of a whole slide in, one all-in-focus slide out."""
