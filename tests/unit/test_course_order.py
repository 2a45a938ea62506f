"""Steps to put in order."""

import pytest

from labkit.course.order import Order, predict_order

STEPS = ("fork", "exec", "exit")


def test_the_steps_are_shuffled_in_the_same_way_however_they_are_given():
    assert Order("What next?", STEPS).steps == Order("What next?", STEPS[::-1]).steps
    assert repr(Order("What next?", STEPS)).splitlines()[0] == "What next?"
    assert set(repr(Order("What next?", STEPS)).splitlines()[1:]) == {"( ) fork", "( ) exec", "( ) exit"}


def test_seen_without_a_choice_tells_the_order_alone():
    assert repr(Order("What next?", STEPS).seen(STEPS)) == "Seen, in this order:\n  fork\n  exec\n  exit"


def test_seen_counts_what_was_put_into_its_place():
    order = Order("What next?", STEPS)
    order._repr_mimebundle_()
    buttons = {button.description.split()[-1]: button for button in order._box.children if hasattr(button, "click")}
    for step in ("fork", "exit", "exec", "exit"):
        buttons[step].click()
    assert order.choice == ["fork", "exit", "exec"]
    assert str(order.seen(STEPS)).endswith("You had put 1 of 3 in this place.")
    assert str(order.seen(["fork", "exit"])).endswith("You had put 2 of 2 in this place."), "what was not seen does not count"
    buttons["again"].click()
    assert order.choice == [] and not any(button.disabled for button in buttons.values())


@pytest.mark.parametrize("steps", [("one",), ("one", "one")])
def test_too_few_steps_are_refused(steps):
    with pytest.raises(ValueError, match="two steps"):
        Order("What next?", steps)


def test_a_stranger_is_refused():
    with pytest.raises(ValueError, match="'clone' is none of the steps"):
        Order("What next?", STEPS).seen(["clone"])


def test_the_same_question_keeps_its_choice():
    first = predict_order("What next of these?", *STEPS)
    first.choice.append("fork")
    assert predict_order("What next of these?", *STEPS) is first
