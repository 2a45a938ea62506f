"""The loop: a Pod is brought to where its manifest wants it. Read sync.py first."""
