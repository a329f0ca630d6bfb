"""The data that pass between processes: messages, values, shared memory and failures."""
