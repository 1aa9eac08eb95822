"""The load harness behind `make bench`."""
