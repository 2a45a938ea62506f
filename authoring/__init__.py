"""Tools for whoever writes a lesson, run by `./course lesson`: they work on this repository and are no part of the wheel."""
