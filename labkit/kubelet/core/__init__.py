"""How a kubelet brings a Pod to where its manifest wants it. README.md leads through the modules."""
