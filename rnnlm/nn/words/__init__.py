"""What a tagger reads of a word: one kind of vector a file."""
