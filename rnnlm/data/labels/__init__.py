"""What labelled text consists of: words with their offsets, label sequences, spans."""
