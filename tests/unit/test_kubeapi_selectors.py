"""Label and field selectors."""

from __future__ import annotations

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.requests import selectors

LABELS = {"digits": "1_0", "app": "web", "tier": "front", "example.com/size": "7"}


@pytest.mark.parametrize(
    "text",
    [
        "", "app", "app=web", "app==web", "app!=db", "!gone", "app in (web, db)", "app notin (db),tier", "gone notin (x)",
        "gone!=x",
        "example.com/size>6", "example.com/size<8,app=web", " app = web , tier in (front) ", "empty notin ()",
    ],
)
def test_selected(text: str) -> None:
    assert all(requirement.met(LABELS) for requirement in selectors.labels(text))


@pytest.mark.parametrize(
    "text",
    ["digits>5", "digits<50", "gone", "app=db", "app!=web", "!app", "app in (db)", "app notin (web)", "tier>3",
     "example.com/size>7", "app="],
)
def test_not_selected(text: str) -> None:
    assert not all(requirement.met(LABELS) for requirement in selectors.labels(text))


VALUE = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app in (web", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("app in (", "unable to parse requirement: found '', expected: ',', or identifier"),
        ("app in web", "unable to parse requirement: found 'web' expected: '('"),
        ("app in (a b)", "unable to parse requirement: found 'b', expected: ',' or ')'"),
        ("app=web,", "found '', expected: identifier after ','"),
        ("app=web,,", "found ',', expected: identifier after ','"),
        (",app", "found ',', expected: !, identifier, or 'end of string'"),
        ("()", "found '(', expected: !, identifier, or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a(b)", "unable to parse requirement: found '(', expected: in, notin, =, ==, !=, gt, lt"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("app=we b", "found 'b', expected: ',' or 'end of string'"),
        ("app=!b", "unable to parse requirement: found '!', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("app>x", "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be"),
        ("-a", 'unable to parse requirement: key: Invalid value: "-a": name part must consist of alphanumeric characters'),
        ("a=é", f'unable to parse requirement: values[0][a]: Invalid value: "é": {VALUE}'),
        ("a in (b, c/d)", f'unable to parse requirement: values[1][a]: Invalid value: "c/d": {VALUE}'),
    ],
)
def test_unparsable(text: str, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        selectors.labels(text)
    assert refused.value.code == 400 and refused.value.message.startswith(words), refused.value.message


POD = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("metadata.name=p", True),
        ("metadata.name==p,metadata.namespace=default", True),
        ("spec.nodeName=n,status.phase!=Failed", True),
        ("spec.nodeName=", False),
        ("status.podIP=", True),
        ("status.phase=Pending", False),
        ("spec.hostNetwork=false", True),
    ],
)
def test_fields_of_pods(text: str, expected: bool) -> None:
    matches = selectors.matcher(BY_PLURAL["pods"], "", text)
    assert matches is not None and matches(POD) is expected


def test_events_are_selected_by_what_they_are_about() -> None:
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "p", "uid": "u"},
        "reason": "Pulled",
        "type": "Normal",
    }
    matches = selectors.matcher(BY_PLURAL["events"], "", "involvedObject.name=p,involvedObject.uid=u,reason!=Failed,type=Normal")
    assert matches is not None and matches(event) and not matches({**event, "type": "Warning"})


@pytest.mark.parametrize(
    ("plural", "text", "words"),
    [
        ("pods", "spec.foo=x", "field label not supported: spec.foo"),
        ("configmaps", "data=x", '"data" is not a known field selector: only "metadata.name", "metadata.namespace"'),
        ("pods", "status.phase", "invalid selector: 'status.phase'; can't understand 'status.phase'"),
    ],
)
def test_fields_that_nobody_may_select_by(plural: str, text: str, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        selectors.fields(BY_PLURAL[plural], text)
    assert (refused.value.code, refused.value.message) == (400, words)
