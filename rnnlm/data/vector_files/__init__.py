"""Word vectors in files: a word, and a vector of as many numbers as every other; one layout a file of this folder."""
