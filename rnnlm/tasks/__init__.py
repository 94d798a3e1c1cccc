"""A task ties data, network and loss together, one a file. To add one: a file here and a YAML in conf/task."""
