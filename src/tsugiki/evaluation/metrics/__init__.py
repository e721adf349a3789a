"""What an answer is worth: pure functions from a prediction and its reference to a number."""
