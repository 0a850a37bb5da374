"""The worker: keeps the packages of one device and runs its part of every request."""
