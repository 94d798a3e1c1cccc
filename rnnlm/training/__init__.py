"""One explicit training loop for every task, with its optimizers, schedules and logs."""
