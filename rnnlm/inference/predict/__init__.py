"""What each kind of model says of words in bulk: its columns, and how rows are filled."""
