"""Work over whole corpora that loses, doubles and changes no row. Runs in one process or on any pool of workers."""
