"""The course as static pages, to be read without a kernel."""
