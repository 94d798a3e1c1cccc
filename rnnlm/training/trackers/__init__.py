"""Trackers that talk to a service beside the run, one a file. None of them can stop, slow or fail a training."""
