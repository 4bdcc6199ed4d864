"""Training of the learned fusers: ``slidefusion train`` and what it is made of."""
