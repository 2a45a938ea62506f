"""What a wrong manifest is told, in Kubernetes' words."""

import pytest

from labkit.podspec import ManifestError, with_defaults
from labkit.podspec.messages import sandbox_config
from labkit.podspec.quantity import exact, milli, whole


def pod(*containers, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": list(containers), **spec}}


def container(**fields):
    return {"name": "app", "image": "i", **fields}


def problems(manifest):
    with pytest.raises(ManifestError) as caught:
        with_defaults(manifest)
    return list(caught.value.problems)


def test_all_problems_are_told_at_once_and_what_to_do():
    with pytest.raises(ManifestError) as caught:
        with_defaults(pod(container(command="sleep 1", ports=[{"containerPort": "80"}]), hostNetwork="yes"))
    assert set(caught.value.problems) == {
        'spec.containers[0].command: Invalid value: "sleep 1": must be a list of strings',
        'spec.containers[0].ports[0].containerPort: Invalid value: "80": must be an integer',
        'spec.hostNetwork: Invalid value: "yes": must be true or false',
    }
    assert str(caught.value).startswith('The Pod "web" is invalid:\n* ') and "Correct the manifest" in str(caught.value)
    assert caught.value._render_traceback_()[0] == 'ManifestError: The Pod "web" is invalid:'


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (pod(), "spec.containers: Required value"),
        ({"metadata": {"name": "web"}}, "spec.containers: Required value"),
        ({"spec": pod(container())["spec"]}, "metadata.name: Required value: name or generateName is required"),
        ({**pod(container()), "kind": "Deployment"}, 'kind: Invalid value: "Deployment": must be "Pod"'),
        ({**pod(container()), "apiVersion": "apps/v1"}, 'apiVersion: Invalid value: "apps/v1": must be "v1"'),
        ("kind: Pod", "a Pod manifest is a dict or a V1Pod, not a str: read YAML with yaml.safe_load first"),
        ([], "a Pod manifest is a dict or a V1Pod, not a list"),
        (None, "a Pod manifest is a dict or a V1Pod, not a NoneType"),
        ({**pod(), "spec": "x"}, 'spec: Invalid value: "x": must be a mapping of fields'),
        (pod("x"), 'spec.containers[0]: Invalid value: "x": must be a mapping of fields'),
        (pod({"name": "app"}), "spec.containers[0].image: Required value"),
        (pod({"image": "i"}), "spec.containers[0].name: Required value"),
        (pod(container(), container()), 'spec.containers[1].name: Duplicate value: "app"'),
        (pod(container(), initContainers=[container()]), 'spec.initContainers[0].name: Duplicate value: "app"'),
        (pod(container(comand=["x"])), 'unknown field "spec.containers[0].comand"'),
        (pod(container(command=["sleep", 5])), "spec.containers[0].command[1]: Invalid value: 5: must be a string"),
        (pod(container(env=[{"name": "A", "value": 5}])), "spec.containers[0].env[0].value: Invalid value: 5: must be a string"),
        (pod(container(env={"A": "b"})), "spec.containers[0].env: Invalid value: \"{'A': 'b'}\": must be a list"),
        (pod(container(tty=1)), "spec.containers[0].tty: Invalid value: 1: must be true or false"),
        (
            pod(container(securityContext={"runAsUser": True})),
            "spec.containers[0].securityContext.runAsUser: Invalid value: true: must be an integer",
        ),
        (
            pod(container(securityContext={"runAsUser": -1})),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
        ),
        (
            {**pod(container()), "metadata": {"name": "web", "labels": {"a": 1}}},
            "metadata.labels[a]: Invalid value: 1: must be a string",
        ),
        (
            pod(container(ports=[{"containerPort": 70000}])),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            pod(container(), restartPolicy="Maybe"),
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"',
        ),
        (
            pod(container(volumeMounts=[{"name": "w", "mountPath": "/w"}])),
            'spec.containers[0].volumeMounts[0].name: Not found: "w"',
        ),
        (pod(container(), volumes=[{"name": "v", "hostPath": {}}]), "spec.volumes[0].hostPath.path: Required value"),
        (
            pod(container(resources={"requests": {"cpu": "1"}, "limits": {"cpu": "500m"}})),
            'spec.containers[0].resources.requests: Invalid value: "1": must be less than or equal to cpu limit of 500m',
        ),
        (
            pod(container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}])),
            'spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.x": '
            "error converting fieldPath: field label not supported: spec.x",
        ),
        (
            {**pod(container()), "metadata": {"name": "web", "uid": "../x"}},
            "metadata.uid: Invalid value: \"../x\": it is part of paths: letters, digits, '-' and '.' only",
        ),
    ],
)
def test_each_problem_in_kubernetes_words(manifest, problem):
    assert problems(manifest) == [problem]


@pytest.mark.parametrize("amount", ["64MiB", "", "one", [1], True])
def test_a_bad_quantity_is_told_with_its_place(amount):
    found = problems(pod(container(resources={"limits": {"memory": amount}})))
    assert len(found) == 1 and found[0].startswith("spec.containers[0].resources.limits[memory]: Invalid value: ")
    assert "quantities must match the regular expression" in found[0]


@pytest.mark.parametrize(
    ("name", "wrong"), [("Shop", True), ("a_b", True), ("-a", True), ("a" * 64, True), ("a.b", True), ("a-1", False)]
)
def test_container_names_are_dns_labels(name, wrong):
    if wrong:
        assert problems(pod(container(name=name)))[0].startswith(f'spec.containers[0].name: Invalid value: "{name}": ')
    else:
        assert with_defaults(pod(container(name=name)))["spec"]["containers"][0]["name"] == name


def test_a_manifest_is_not_changed_and_null_means_absent():
    manifest = pod(container(command=None, resources=None), volumes=None)
    before = repr(manifest)
    assert "command" not in with_defaults(manifest)["spec"]["containers"][0] and repr(manifest) == before
    assert sandbox_config(manifest).hostname == "web"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("localhost:5000/bb", "Always"),
        ("bb:latest", "Always"),
        ("localhost:5000/bb:1", "IfNotPresent"),
        ("bb@sha256:1", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image, policy):
    assert with_defaults(pod(container(image=image)))["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_with_defaults_keeps_a_uid_and_repeats_nothing():
    once = with_defaults(pod(container(resources={"limits": {"cpu": "1"}})))
    assert with_defaults(once) == once and once["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1"}


@pytest.mark.parametrize(
    ("text", "thousandths", "units"),
    [
        ("250m", 250, 1),
        ("1", 1000, 1),
        ("64Mi", 67108864000, 67108864),
        ("1e3", 1000000, 1000),
        ("1.5", 1500, 2),
        ("100n", 1, 1),
        (2, 2000, 2),
        ("1E", 10**21, 10**18),
    ],
)
def test_quantities_are_exact_and_rounded_up(text, thousandths, units):
    assert (milli(text), whole(text)) == (thousandths, units)
    assert exact("0.1") * 10 == 1
