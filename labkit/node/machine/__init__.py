"""The small virtual machine: what goes into it (`guest`), how it is built (`build`), how qemu runs it (`machine`)."""

import labkit.node  # noqa: F401  # which has a kind of node that needs this package: whichever comes first, all of it is loaded
