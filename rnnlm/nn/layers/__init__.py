"""One layer a file, cells apart. To add one: a file here and a YAML in conf/layer."""
