"""The texts of a new lesson. NUMBER and QUESTION are filled in; TODO is what its author writes."""

NOTEBOOK = """
# NUMBER · QUESTION

TODO Two or three sentences: what the learner has seen already, with kubectl or in an earlier lesson, and what not. No answer yet.

> **QUESTION**

After this notebook (about TODO 20 minutes) you can

- TODO one thing to do, a verb first: find, tell, read, repair;
- TODO another one.

If you see outputs already, choose *Edit → Clear Outputs of All Cells* first, so that no answer shows before your prediction.
-----
%%
import labkit

node = labkit.connect(lesson="NUMBER")
hold = node.kubelet_held()
hold.start()
-----
(You make a Pod by hand. A kubelet deletes Pods that it did not create. So a notebook suspends a cluster's kubelet.)

## TODO The first experiment, named by what is done

TODO What the learner does, and why. A new term is in **bold** where it first occurs, with its meaning, and has a row in
`docs/glossary.yaml`. The heading and this text do not give the answer away. The question's texts are in
`notebooks/quizzes/NUMBER.yaml`. In this example a Pod of one container is started.
-----
%%
guess = labkit.predict("NUMBER.processes")
guess
-----
%%
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
pod = node.start_pod({"metadata": {"name": "example"}, "spec": {"containers": [main]}})
guess.seen({1: "one", 2: "two"}.get(len(pod.processes), "three or more"))
-----
%%
labkit.process_tree(node.processes(), pods=node.pods())
-----
TODO Explain: name the line, process or inode on the learner's screen, and what follows from it, in two to five sentences.
Then comes the next experiment, in the same four steps: predict, run, look, explain.
-----
%%
node.remove_pod(pod)
-----
## Summary

- TODO three to five sentences, each one that an experiment above has shown, and each with the `name` of what showed it.

## Exercise NUMBER.1

TODO What the learner is to make. The check looks at the node: it names what is there and what is missing.
-----
%%
# node.start_pod({...})
labkit.check("NUMBER.1", node)
-----
<details><summary>A solution</summary>

[solutions/NUMBER.1.py](solutions/NUMBER.1.py). TODO One or two sentences: why this answers the question.

</details>

**Next:** TODO the question that this lesson leaves open, and the lesson that answers it.

**Sources:** TODO by name and section, so that they are found in any version, as in: CRI: `api.proto`, messages `…`. The kubelet:
`pkg/kubelet/…`. man 7 namespaces.

The last cell removes what this notebook made, and resumes the kubelet if the notebook suspended one.
-----
%%
node.remove_leftovers()
hold.release()
"""

QUIZ = """
# The questions of notebook NUMBER. docs/authoring.md ("A quiz") describes this file.
processes:
  question: TODO How many processes does a Pod of one container have?
  options:
    one:
      tempts: TODO Why this looks right.
      shows: TODO What the learner sees that shows that it is wrong.
      source: TODO containerd, `core/runtime/v2/README.md`
    two:
      tempts: TODO Why this looks right.
      shows: TODO What the learner sees that shows that it is wrong.
      source: TODO containerd, `core/runtime/v2/README.md`
    three or more:
      right: TODO Why it is so. The learner reads this with the verdict, and not before.
      source: TODO containerd, `core/runtime/v2/README.md`
"""

CHECK = '''
"""Check of lesson NUMBER, DOCSTRING"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.checks.pod_checks import absent, find, not_ready, too_few
from labkit.course.verdict import Check, exercise, passed, refused

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("NUMBER.1")
def answered(node: Node) -> Check:
    """NUMBER.1: TODO what the learner has made, as in: a Pod `answer` that runs `sleep`."""
    pod = find(node, "answer")
    if pod is None:
        return absent(node, "answer", "TODO whose container sleeps")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 1):
        return wrong
    if pod.ip == "TODO what must not be, in the runtime and in the kernel":
        return refused(
            "TODO what the check saw.",
            "TODO what is missing.",
            "TODO a first hint, never the solution.",
            "TODO a plainer hint, given when the check is run again without progress.",
            taught="notebook 02, “Who shares what?”",
        )
    return passed("TODO what holds.")
'''

SOLUTION = """
# TODO what the learner could have written: a cell's code, with `node` and `labkit` as in the notebook
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
node.start_pod({"metadata": {"name": "answer"}, "spec": {"containers": [main]}})
"""

WRONG = """
# Answers that the check must refuse, each below its reason. TODO the mistakes that you expect, and how one would cheat
main = {"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}
# %% the Pod has another name
node.start_pod({"metadata": {"name": "question"}, "spec": {"containers": [main]}})
# %% the container has ended
pod = node.start_pod({"metadata": {"name": "answer"}, "spec": {"containers": [{**main, "command": ["true"]}]}})
node.wait_exit(pod.container("main").id)
# %% the Pod has a sandbox and no container
manifest = node.manifest({"metadata": {"name": "answer"}, "spec": {"containers": [main]}})
node.cri.run_pod_sandbox(config=node.sandbox_config(manifest))
# %% cheat: the Pod ran once, and its sandbox is stopped
pod = node.start_pod({"metadata": {"name": "answer"}, "spec": {"containers": [main]}})
node.cri.stop_pod_sandbox(pod_sandbox_id=pod.id)
"""
