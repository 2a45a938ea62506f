"""Names that somebody else may give to a thing: what could lead away from where its files belong, and what is only odd."""

from __future__ import annotations

from hypothesis import strategies as st

AWAY = ["", ".", "..", "/", "a/b", "../victim", "/etc", "a/../../victim", "\0", "a\0b", "a\nb", "\x7f", "x" * 300, "ü" * 200]
AWAY.append("\ud800")
"""What can never name a file of ours."""

ODD = ["-rf", "--help", "*", "?", "[a]", "a b", "$(id)", "`id`", ";", "日本", "a\\b", "%2e%2e", "..a", "~", "{}", "\udcff"]
"""What is the name of a file, though a shell, a glob or a URL might take it for something else."""

away = st.sampled_from(AWAY) | st.text(max_size=20).map("{}/".format) | st.text(max_size=20).map("/{}".format)
names = away | st.sampled_from(ODD) | st.text(max_size=300)
