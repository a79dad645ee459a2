"""What a graph ran with, as plain data: told the same in every process, and compared with what it runs with now."""
