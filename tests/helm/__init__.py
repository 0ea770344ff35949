"""The chart and the images: `make test-helm`."""
