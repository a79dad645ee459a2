"""What the model calls of a thread have used and cost: recorded call by call, none lost, none counted twice."""
