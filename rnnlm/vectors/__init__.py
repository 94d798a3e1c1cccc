"""Vectors that are alike: columns of vectors, and the nearest of many by cosine, exact and without an index."""
