"""Stability study on MNIST: GAN against EBGAN with and without the pulling-away term.

The paper's grid of fully connected networks (section 4.1 and appendix), or a seeded random
part of it; one JSON file for each configuration, so that a stopped study goes on where it was.
"""
