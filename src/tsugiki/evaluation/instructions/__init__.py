"""Instructions that an answer follows or not, as a program can tell: no judge model is asked."""
