"""The cases of each file of test vectors."""
