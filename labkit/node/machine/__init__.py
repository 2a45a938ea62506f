"""The small virtual machine: what goes into it (`guest`), how it is built (`build`), how qemu runs it (`machine`)."""
