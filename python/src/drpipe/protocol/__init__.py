"""What passes between processes: messages, values, shared memory, failures."""
