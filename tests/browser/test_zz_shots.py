import pytest


@pytest.mark.parametrize("lesson", ["00","01","03","04","05","06","07"])
def test_shot(lesson, learner):
    notebook = learner(lesson, outputs=True)
    notebook.page.wait_for_timeout(500)
