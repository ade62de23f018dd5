"""The image, built and run for real: podman as root, on a stand-in for python:3.11-slim made from Debian's packages."""
